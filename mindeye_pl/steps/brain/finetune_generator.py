"""The generator fine-tuned on what the mappers of one subject read from its brain (Mind Reader, spec section 7).

Legend: n trials, V voxels, C captions of an image at most, E embedding width, P image side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.image_datamodule import ImageDataModule
from mindeye_pl.data.image_sources import ImageFile, Table
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Work
from mindeye_pl.errors import UserError
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.models.gan.brain_conditioned import BrainConditioned
from mindeye_pl.nn.stylegan2.conditions import with_second_condition
from mindeye_pl.nn.stylegan2.networks import ImageGenerator, SampledLatents, build_discriminator, build_generator
from mindeye_pl.steps.brain.trained_model import ModelStep, Trained
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, TRAINING_TRIALS, add_targets, subject_trials
from mindeye_pl.steps.foundation.generator import GRID, generator_objective, save_networks
from mindeye_pl.steps.foundation.images import Prepared
from mindeye_pl.steps.inputs.dataset import Dataset
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel, has_part
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.callbacks.image_grid import GeneratedGrid
from mindeye_pl.training.checkpoints import WEIGHTS, load_weights, read_weights, save_weights
from mindeye_pl.training.fit import TRAINER_KEYS, fit
from mindeye_pl.training.settings import TrainingSettings, determined_by_callbacks
from mindeye_pl.weights.files import read_own
from mindeye_pl.weights.loaders import bundled

_SCRATCH = "generator.start=scratch, or pipeline=pretrain_generator with this embedder"


def trains_generator(config: DictConfig) -> bool:
    """Return whether images are drawn by a generator that is fine-tuned to the subject."""
    generator = config.get("generator")
    if generator is None or config.get("unclip") is None:
        return False
    if bundled.GENERATOR not in config.unclip.get("files", ()):
        raise UserError(
            f"generator={generator.name} does not belong to unclip={config.unclip.name}", fix="unclip=lafite"
        )
    return True


class FinetuneGenerator(ModelStep):
    """Trains the image generator on the mappers' embeddings of one subject's brain."""

    name = "finetune_generator"
    title = "Generator"
    keys = (*TRAINING_TRIALS, "generator", "trainer.precision", "data.subject", "data.num_sessions")
    runtime_keys = (*TRAINING_RUNTIME, *TRAINER_KEYS, "embedder.token_dim", "embedder.name")
    by_all_ranks = True

    def label(self, config: DictConfig) -> str:
        """Return the mappers' label and the condition."""
        return f"{super().label(config)}-{config.generator.condition}"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return trials, targets, the trained mappers, and the generator's start where it is pretrained."""
        found: dict[str, Input] = {
            "data": training_data(config, [config.data.subject]),
            "split": Split(),
            "targets": Targets(low_level=True),
            "model": Trained(),
        }
        if config.generator.start == "pretrained":
            found["unclip"] = Frozen("unclip")
        return found

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return what the weights depend on of the trainer and the callbacks."""
        return determined_by_trainer(config) | determined_by_callbacks(config)

    def check(self, config: DictConfig) -> None:
        """Check that the system has what the generator is conditioned on."""
        settings = config.generator
        if settings.condition != "image" and not has_part(config, "caption_mapper"):
            fix, expected = "generator.condition=image", "a caption mapper"
            raise UserError("the generator lacks a condition", got=settings.condition, expected=expected, fix=fix)
        generator_objective(settings.objective)
        super().check(config)

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Train generator and discriminator, and the mappers where they learn too."""
        subject, wanted = settings.data.subject, settings.generator
        dataset, embedder = inputs["data"], inputs["targets"].embedder
        brains = subject_trials(dataset, settings, inputs["split"])
        add_targets(brains, inputs["targets"])
        torch.manual_seed(settings.seed)
        start = inputs.get("unclip")
        sizes, weights = starting_networks(wanted, embedder.settings, start)
        networks = build_generator(sizes), build_discriminator(sizes)
        for network, part in zip(networks, ("generator", "discriminator"), strict=True):
            if weights:
                network.load_state_dict(bundled.own_part(weights, part))
        model = BrainConditioned(
            *networks,
            embedder.load(),
            generator_objective(wanted.objective),
            inputs["model"].load(brains.voxel_counts[subject]),
            mappers=wanted.mappers,
            mapper_learning_rate=wanted.mapper_learning_rate,
        )

        def save() -> None:
            save_networks(work.folder / bundled.GENERATOR, model, sizes)
            if model.mappers_learn:
                save_weights(model.brain_decoder, work.folder / WEIGHTS)

        data = trial_tables(brains, dataset, wanted, image_side=sizes["image_size"], seed=settings.seed)
        title = f"fine-tuning the generator to subject {subject}, conditioned on {wanted.condition}"
        grid = [GeneratedGrid(work.folder / GRID, work.log.log_image if work.log.enabled else None)]
        training = TrainingSettings.of(settings, work.name)
        how: dict[str, Any] = {"budget": Budget(wanted.epochs), "title": title, "callbacks": grid, "save": save}
        fit(model, data, work.folder, training, log=work.log, **how)


FINETUNE_GENERATOR = FinetuneGenerator()


class _ByTrial:
    """A table by stimulus id, read by trial; `stimulus_ids` `(n,)` are the trials' own."""

    def __init__(self, table: Table, stimulus_ids: np.ndarray):
        self._table, self._stimulus_ids = table, stimulus_ids

    def __getitem__(self, trials: np.ndarray) -> np.ndarray:
        return self._table[self._stimulus_ids[trials]]


def trial_tables(
    brains: TrialDataModule, dataset: Dataset, settings: DictConfig, *, image_side: int, seed: int
) -> ImageDataModule:
    """Return training trials and, behind them, the validation trials, as batches of tables.

    Images have the generator's side; `settings` is the node of the generator.
    """
    brains.setup()
    trained, held_out = brains.train_trials[0].stimulus_ids, brains.validation_trials[0].stimulus_ids
    ids = np.concatenate([trained, held_out])
    images = Prepared(ImageFile(dataset.layout.stimuli, image_side))  # squares of the generator's size
    by_image = {"images": images, "image": brains.targets["tokens"], "captions": brains.targets.get("captions")}
    tables: dict[str, Table] = {
        "voxels": brains.betas_in_use(),  # (n, V)
        **{name: _ByTrial(table, ids) for name, table in by_image.items() if table is not None},
    }
    return ImageDataModule(
        tables, len(ids), settings.batch_size, len(held_out), seed=seed, steps_per_epoch=settings.steps_per_epoch
    )


def starting_networks(
    settings: DictConfig, embedder: DictConfig, start: FrozenModel | None
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Return sizes of the networks, and the weights that they start with: none from scratch.

    A network of one condition starts as one of two, which start equal, where both are asked for (spec section 5.4).

    Args:
        settings: node of the generator.
        embedder: node of the embedder; a pretrained generator of other embeddings is refused.
        start: the pretrained generator, None from scratch.
    """
    width = embedder.token_dim
    if start is None:
        widths = {"image_dim": width, "caption_dim": width}
        asked = {"condition": settings.condition, "projection_reduction": settings.projection_reduction}
        return {**{str(key): value for key, value in settings.sizes.items()}, **asked, **widths}, {}
    (path,) = start.files.values()
    weights, sizes = read_own(path)
    if width != sizes["image_dim"]:
        expected = f"width {width}, as embedder={embedder.name} makes"
        got = f"width {sizes['image_dim']}"
        raise UserError(f"{path} was trained on other embeddings", got=got, expected=expected, fix=_SCRATCH)
    if settings.condition == "both" and sizes["condition"] != "both":
        weights = with_second_condition(weights)
    return sizes | {"condition": settings.condition}, weights


@dataclass(frozen=True)
class FinetunedGenerator:
    """A subject's generator, in the folder of the finished step."""

    folder: Path

    def load(self, latents: SampledLatents) -> ImageGenerator:
        """Return the generator."""
        return bundled.load_generator(self.folder, latents=latents)

    def with_its_mappers(self, model: BrainDecoder) -> BrainDecoder:
        """Return the system, with the mappers that learned beside the generator where they did."""
        if (path := self.folder / WEIGHTS).exists():
            load_weights(model, read_weights(path), path)
        return model
