"""Closed-form alignment of `data.subject` to a pretrained model, from which its fine-tuning starts.

Legend: N images, n trials, S tokens, D token width, F features, V voxels, h hidden width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from sklearn.random_projection import SparseRandomProjection
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Made, Step, Work
from mindeye_pl.metrics.retrieval import cosine_similarity, ranks_of_own
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.brain.trials import TRAINING_RUNTIME, TRAINING_TRIALS, subject_tags, subject_trials, trial_data
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.steps.inputs.targets import ImageTargets, Targets
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_tensors
from mindeye_pl.training.build import build_model
from mindeye_pl.training.checkpoints import WEIGHTS, load_weights, read_weights
from mindeye_pl.training.closed_form import ClosedFormAlignment, SharedVectors

#: Files: `weight` `(h, V)` and `bias` `(h,)`; and what was chosen.
ALIGNMENT, CHOICES = "alignment.safetensors", "choices.json"

#: Images whose held-out predictions choose penalty and gain.
_MAX_JUDGING_IMAGES = 300
#: Trials or images in memory at once.
_BLOCK = 512


class ClosedForm(Step):
    """Aligns one subject to the pretraining subjects' shared space by ridge regression."""

    name = "closed_form_alignment"
    title = "Alignment in closed form"
    keys = (
        *(*TRAINING_TRIALS, "model", "data.subject", "data.num_sessions", "metrics.ridge_alphas"),
        *("pretrain.subjects", "pretrain.num_sessions", "finetune.alignment.features", "finetune.alignment.gains"),
    )
    runtime_keys = TRAINING_RUNTIME

    def label(self, config: DictConfig) -> str:
        """Return subject, hours and seed."""
        sessions = config.data.num_sessions
        return f"subj{config.data.subject:02d}-{'all' if sessions == 'all' else f'{sessions}h'}-seed{config.seed}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return subject_tags(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the trials of all subjects, the images left out, the target tokens and the pretrained model."""
        data = training_data(config, sorted({*config.pretrain.subjects, config.data.subject}))
        return {"data": data, "split": Split(), "targets": Targets(), "pretrained": Made(PRETRAIN)}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit shared vectors of images, then the subject's voxels to these, and write the map."""
        wanted, targets = settings.finetune.alignment, inputs["targets"]
        penalties = list(settings.metrics.ridge_alphas)
        subjects: dict[str, Any] = {key: settings.pretrain[key] for key in ("subjects", "num_sessions")}
        others = trial_data(inputs["data"], settings, inputs["split"], **subjects)
        model = _pretrained(settings, others, inputs["pretrained"] / WEIGHTS)
        model = model.to(targets.embeddings.device)
        features = ImageFeatures(targets, wanted.features)
        ids, vectors = mean_aligned(model, others)
        shared = SharedVectors.fit(features(ids), vectors, penalties)
        data = subject_trials(inputs["data"], settings, inputs["split"])
        (trials,), subject = data.train_trials, settings.data.subject
        betas = data.normalisation(subject)(read_betas(data.layout, subject, trials.beta_rows))  # (n, V)
        own = np.unique(trials.stimulus_ids)
        found = ClosedFormAlignment.fit(
            betas,
            trials.stimulus_ids,
            shared(features(own)),
            penalties=penalties,
            gains=wanted.gains,
            score=HeldOutRetrieval(model, targets.true_tokens(own[:_MAX_JUDGING_IMAGES])),
            device=targets.embeddings.device,
        )
        write_tensors(work.folder / ALIGNMENT, {"weight": found.weight.contiguous(), "bias": found.bias.contiguous()})
        write_json(work.folder / CHOICES, found.choices | {"shared_r2": shared.r2, "shared_penalty": shared.penalty})
        console.print(
            f"  shared vectors of {len(ids):,} images, R² {shared.r2:.3f} on others; alignment of {len(own):,} images:"
            f" penalty {found.choices['penalty']:g}, gain {found.choices['gain']:g}"
        )


CLOSED_FORM = ClosedForm()


def _pretrained(settings: Settings, data: TrialDataModule, path: Path) -> BrainDecoder:
    model = build_model(settings, [data.voxel_counts[subject] for subject in data.subjects])
    load_weights(model, read_weights(path), path)
    return model.eval()


def load_alignment(model: BrainDecoder, folder: Path) -> None:
    """Load a finished step's map into a model of one subject."""
    network = model.get_submodule("alignment.network.linears.0")
    network.load_state_dict(read_tensors(folder / ALIGNMENT))


class ImageFeatures:
    """Features `(N, F)` float32 of images by id `(N,)`: their target tokens, or random projections of these.

    Args:
        targets: of the images.
        width: F at most; the projection is the same for every subject.
    """

    def __init__(self, targets: ImageTargets, width: int):
        self._targets = targets
        shape = targets.embedder.settings.num_tokens, targets.embedder.settings.token_dim
        size = shape[0] * shape[1]
        self._projection = None
        if size > width:
            self._projection = SparseRandomProjection(width, random_state=0, dense_output=True)
            self._projection.fit(np.zeros((1, size), np.float32))

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Return the features of these images, ids ascending."""
        store, rows = self._targets.tokens(ids), []
        for start in range(0, len(ids), _BLOCK):
            tokens = np.asarray(store[ids[start : start + _BLOCK]], np.float32)
            flat = tokens.reshape(len(tokens), -1)
            rows.append(flat if self._projection is None else self._projection.transform(flat))
        return np.concatenate(rows).astype(np.float32)


@torch.no_grad()
def mean_aligned(model: BrainDecoder, data: TrialDataModule) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of all subjects' training trials `(N,)`, ascending, and their mean aligned vectors `(N, h)`."""
    ids = np.unique(np.concatenate([trials.stimulus_ids for trials in data.train_trials]))
    alignment, sums, counts = model.parts()["alignment"], torch.zeros(0), np.zeros(len(ids), np.int64)
    for index, (subject, trials) in enumerate(zip(data.subjects, data.train_trials, strict=True)):
        scale = data.normalisation(subject)
        for start in range(0, len(trials), _BLOCK):
            block = trials.select(np.arange(start, min(start + _BLOCK, len(trials))))
            betas = torch.from_numpy(scale(read_betas(data.layout, subject, block.beta_rows))).to(model.device)
            aligned = alignment(betas, index).float().cpu()  # (b, h)
            sums = sums if len(sums) else torch.zeros(len(ids), aligned.shape[1])
            rows = np.searchsorted(ids, block.stimulus_ids)
            sums.index_add_(0, torch.from_numpy(rows), aligned)
            np.add.at(counts, rows, 1)
    return ids, (sums / torch.from_numpy(counts)[:, None]).numpy()


class HeldOutRetrieval:
    """Score of aligned vectors: how far up the backbone's embedding of them ranks the seen image.

    Args:
        model: pretrained.
        tokens: `(N, S, D)` of the images that judge.
    """

    def __init__(self, model: BrainDecoder, tokens: Tensor):
        self._model, self._tokens = model, tokens.float().to(model.device)

    @torch.no_grad()
    def __call__(self, aligned: Tensor) -> float:
        """Return minus the mean logarithm of the ranks in both directions, for vectors `(M, h)` of M >= N images."""
        parts = aligned[: len(self._tokens)].to(self._model.device).split(_BLOCK)
        backbone = self._model.parts()["backbone"].network
        retrieval = torch.cat([backbone(part)[1] for part in parts])  # (N, S, D)
        similarity = cosine_similarity(query=retrieval, gallery=self._tokens)
        ranks = [ranks_of_own(each).double().log() for each in (similarity, similarity.T)]
        return -float(torch.stack(ranks).mean())
