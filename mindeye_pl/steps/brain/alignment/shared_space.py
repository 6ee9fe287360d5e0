"""The aligned space of a pretrained model, and the alignment of trials to it in closed form.

Legend: N images, n trials, S tokens, D token width, F features, h hidden width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.random_projection import SparseRandomProjection
from torch import Tensor

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.trials import Trials
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Inputs
from mindeye_pl.metrics.retrieval import cosine_similarity, ranks_of_own
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.steps.brain.alignment.prior import CarriedMaps, carried_maps
from mindeye_pl.steps.brain.trials import trial_data
from mindeye_pl.steps.inputs.targets import ImageTargets
from mindeye_pl.training.build import build_model
from mindeye_pl.training.checkpoints import WEIGHTS, load_shared_weights, load_weights, read_weights
from mindeye_pl.training.closed_form import ClosedFormAlignment, SharedVectors

#: Settings of every closed-form alignment.
ALIGNMENT_KEYS = tuple(
    f"finetune.alignment.{key}"
    for key in ("features", "penalties", "gains", "prior", "prior_scales", "prior_neighbours", "prior_axes")
)

#: Images whose held-out predictions choose penalty and gain.
_MAX_JUDGING_IMAGES = 300
#: Trials or images in memory at once.
_BLOCK = 512


class SharedSpace:
    """The aligned space of a pretrained model, to which subjects are aligned in closed form.

    Args:
        model: pretrained, with the alignments of its subjects.
        vectors: shared vectors of images.
        features: of images.
        wanted: `finetune.alignment`.
        prior: of the alignments, where they have one.
    """

    def __init__(
        self,
        model: BrainDecoder,
        vectors: SharedVectors,
        features: "ImageFeatures",
        wanted: Settings,
        prior: CarriedMaps | None = None,
    ):
        self.model, self.vectors, self.features, self._wanted, self._prior = model, vectors, features, wanted, prior

    @classmethod
    def of(cls, settings: Settings, inputs: Inputs) -> Self:
        """Return the space of the inputs `data`, `split`, `targets` and `pretrained`, and those of the prior."""
        targets, wanted = inputs["targets"], settings.finetune.alignment
        chosen: dict[str, Any] = {key: settings.pretrain[key] for key in ("subjects", "num_sessions")}
        data = trial_data(inputs["data"], settings, inputs["split"], **chosen)
        model = build_model(settings, [data.voxel_counts[subject] for subject in data.subjects])
        path = inputs["pretrained"] / WEIGHTS
        load_weights(model, read_weights(path), path)
        model = model.eval().to(targets.embeddings.device)
        features = ImageFeatures(targets, wanted.features)
        ids, aligned = mean_aligned(model, data)
        vectors = SharedVectors.fit(features(ids), aligned, wanted.penalties)
        return cls(model, vectors, features, wanted, carried_maps(settings, inputs, model, data, features))

    @property
    def choices(self) -> dict[str, float]:
        """Plain data of the shared vectors."""
        return {"shared_r2": self.vectors.r2, "shared_penalty": self.vectors.penalty}

    def align(self, data: TrialDataModule, trials: Trials) -> ClosedFormAlignment:
        """Return the alignment by some trials of one of the data's subjects."""
        ids = np.unique(trials.stimulus_ids)
        betas = data.normalised_betas(trials)  # (n, V)

        def prior(rows: np.ndarray) -> Tensor:
            assert self._prior is not None
            return self._prior(trials.subject, betas[rows], trials.stimulus_ids[rows])

        return ClosedFormAlignment.fit(
            betas,
            trials.stimulus_ids,
            self.vectors(self.features(ids)),
            penalties=self._wanted.penalties,
            gains=self._wanted.gains,
            score=HeldOutRetrieval(self.model, self.features.targets.true_tokens(ids[:_MAX_JUDGING_IMAGES])),
            prior=None if self._prior is None else prior,
            prior_scales=self._wanted.prior_scales,
            device=self.model.device,
        )


def load_shared(model: BrainDecoder, folder: Path) -> None:
    """Load the weights of a finished training that subjects share."""
    path = folder / WEIGHTS
    load_shared_weights(model, read_weights(path), path, inherit_bias="corrected")


class ImageFeatures:
    """Features `(N, F)` float32 of images by id `(N,)`: their target tokens, or random projections of these.

    Args:
        targets: of the images.
        width: F at most; the projection is the same for every subject.
    """

    def __init__(self, targets: ImageTargets, width: int):
        self.targets = targets
        shape = targets.embedder.settings.num_tokens, targets.embedder.settings.token_dim
        size = shape[0] * shape[1]
        self._projection = None
        if size > width:
            self._projection = SparseRandomProjection(width, random_state=0, dense_output=True)
            self._projection.fit(np.zeros((1, size), np.float32))

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Return the features of these images, ids ascending."""
        store, rows = self.targets.tokens(ids), []
        for start in range(0, len(ids), _BLOCK):
            tokens = np.asarray(store[ids[start : start + _BLOCK]], np.float32)
            flat = tokens.reshape(len(tokens), -1)
            rows.append(flat if self._projection is None else self._projection.transform(flat))
        return np.concatenate(rows).astype(np.float32)


@dataclass(frozen=True)
class VectorTable:
    """Vectors `(N, h)` float32 of images `(N,)`, ascending, by id."""

    ids: np.ndarray
    vectors: np.ndarray

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors `(n, h)` of images `(n,)` among these."""
        return self.vectors[np.searchsorted(self.ids, ids)]


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
