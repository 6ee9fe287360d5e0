"""Closed-form alignment of `data.subject` to a pretrained model, from which its fine-tuning starts.

Legend: N images, F features, V voxels, h hidden width.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.console import console
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.alignment.episodes import EPISODES
from mindeye_pl.steps.brain.alignment.prior import position_inputs
from mindeye_pl.steps.brain.alignment.shared_space import ALIGNMENT_KEYS, SharedSpace, VectorTable, load_shared
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, TRAINING_TRIALS, subject_tags, subject_trials, trials_label
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.store.atomic import write_arrays, write_json, write_tensors
from mindeye_pl.store.own_files import read_arrays, read_tensors

#: Files: `weight` `(h, V)` and `bias` `(h,)`; those of the map from F image features to shared vectors; the choices.
ALIGNMENT, SHARED, CHOICES = "alignment.safetensors", "shared_vectors.safetensors", "choices.json"


class ClosedForm(Step):
    """Aligns one subject to the pretraining subjects' shared space by ridge regression."""

    name = "closed_form_alignment"
    title = "Alignment in closed form"
    keys = (
        *(*TRAINING_TRIALS, "model", "data.subject", "data.num_sessions"),
        *("pretrain.subjects", "pretrain.num_sessions", *ALIGNMENT_KEYS),
    )
    runtime_keys = TRAINING_RUNTIME
    version = 2  # the gain is chosen in turn with the rest

    def label(self, config: DictConfig) -> str:
        """Return subject, hours and seed."""
        return f"{trials_label(config)}-seed{config.seed}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return subject_tags(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the trials of all subjects, the images left out, the target tokens and the pretrained models."""
        data = training_data(config, sorted({*config.pretrain.subjects, config.data.subject}))
        found = {"data": data, "split": Split(), "targets": Targets(), "pretrained": Made(PRETRAIN)}
        found |= position_inputs(config, [config.data.subject, *config.pretrain.subjects])
        return found | ({"episodes": Made(EPISODES)} if config.finetune.episodes.per_subject else {})

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit shared vectors of images, then the subject's voxels to these, and write the map."""
        data = subject_trials(inputs["data"], settings, inputs["split"])
        space = SharedSpace.of(settings, inputs)
        if "episodes" in inputs:
            load_shared(space.model, inputs["episodes"])
        found = space.align(data, data.train_trials[0])
        tensors = {"weight": found.weight.contiguous(), "bias": found.bias.contiguous()}
        write_tensors(work.folder / ALIGNMENT, tensors)
        write_arrays(work.folder / SHARED, {"weight": space.vectors.weight, "bias": space.vectors.bias})
        write_json(work.folder / CHOICES, found.choices | space.choices)
        console.print(
            f"  shared vectors of images: R² {space.vectors.r2:.3f} on others; alignment:"
            f" penalty {found.choices['penalty']:g}, gain {found.choices['gain']:g}"
            f", scale of the prior {found.choices['prior_scale']:g}"
        )


CLOSED_FORM = ClosedForm()


def load_alignment(model: BrainDecoder, folder: Path) -> None:
    """Load a finished step's map into a model of one subject."""
    network = model.get_submodule("alignment.network.linears.0")
    network.load_state_dict(read_tensors(folder / ALIGNMENT))


def shared_table(folder: Path, features: Callable[[np.ndarray], np.ndarray], ids: np.ndarray) -> VectorTable:
    """Return the shared vectors of images `(N,)`, ascending, by a finished step's map from their `features`."""
    shared = read_arrays(folder / SHARED)
    return VectorTable(ids, features(ids) @ shared["weight"].T + shared["bias"])
