"""The prior of a new subject's voxels, from the voxels of the other subjects.

Legend: N images of a subject, V voxels, d features, T values of an image's tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.retrieval import retrieval_accuracy
from mindeye_pl.nn.in_context.episodes import Episode, KnownSubject
from mindeye_pl.nn.in_context.image_features import ImageFeatures
from mindeye_pl.nn.in_context.inversion import infer_features
from mindeye_pl.nn.in_context.support import EstimatedVoxels, estimate_voxels
from mindeye_pl.nn.in_context.voxel_prior import Moments, VoxelPrior
from mindeye_pl.steps.brain.in_context.known_subjects import KNOWN_TRIALS, TRIALS_RUNTIME, read_known
from mindeye_pl.steps.inputs.splits import Split, training_data
from mindeye_pl.steps.inputs.targets import Targets
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_json, read_tensors

PRIOR, CHOICES = "prior.safetensors", "choices.json"

#: Images by which the weight of independent noise is judged, of each subject that is left out.
_JUDGED = 300


@dataclass(frozen=True)
class FittedPrior:
    """All that the closed form needs of the other subjects.

    Attributes:
        features: of images.
        prior: of voxels.
        pseudo_count: as of `infer_features`.
        weights: `(d, V)` float32 posterior mean weights of each subject's voxels.
    """

    features: ImageFeatures
    prior: VoxelPrior
    pseudo_count: float
    weights: dict[int, Tensor]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the content of a finished step."""
        stored = read_tensors(folder / PRIOR)
        parts: dict[str, dict[str, Tensor]] = {"features": {}, "prior": {}, "weights": {}}
        for name, tensor in stored.items():
            part, _, own = name.partition(".")
            parts[part][own] = tensor
        weights = {int(subject): each for subject, each in parts["weights"].items()}
        pseudo_count = read_json(folder / CHOICES)["pseudo_count"]
        return cls(ImageFeatures.of_tensors(parts["features"]), VoxelPrior(**parts["prior"]), pseudo_count, weights)

    def write(self, folder: Path, scores: Mapping[float, float]) -> None:
        """Write the files; `scores` of the candidates are kept for people."""
        weights = {str(subject): each for subject, each in self.weights.items()}
        parts = {"features": self.features.tensors(), "prior": self.prior.tensors(), "weights": weights}
        flat = {f"{part}.{name}": tensor.contiguous() for part, each in parts.items() for name, tensor in each.items()}
        write_tensors(folder / PRIOR, flat)
        plain = {f"{candidate:g}": score for candidate, score in scores.items()}
        write_json(folder / CHOICES, {"pseudo_count": self.pseudo_count, "scores": plain})


class FitVoxelPrior(Step):
    """Fits image features and the prior of voxels on `pretrain.subjects`."""

    name = "fit_voxel_prior"
    title = "Prior of voxels"
    keys = (*KNOWN_TRIALS, "in_context.features", "in_context.pseudo_counts", "in_context.context")
    runtime_keys = TRIALS_RUNTIME

    def label(self, config: DictConfig) -> str:
        """Return the subjects."""
        return known_label(config)

    def check(self, config: DictConfig) -> None:
        """Check that a subject can be left out."""
        if len(subjects := list(config.pretrain.subjects)) < 2:
            what = "in_context learns how voxels vary between subjects"
            raise UserError(what, got=subjects, expected="two subjects at least", fix="pretrain.subjects=[...]")

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the subjects' trials and the target tokens."""
        data = training_data(config, list(config.pretrain.subjects))
        return {"data": data, "split": Split(), "targets": Targets()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit, and choose the weight of independent noise with each subject left out in turn."""
        targets, own = inputs["targets"], settings.in_context
        known = read_known(inputs["data"], settings, inputs["split"])
        features = ImageFeatures.fit(*_some_tokens([one.ids for one in known.values()], settings, targets))
        subjects = [one.subject(features, targets) for one in known.values()]
        moments = [Moments.of(one.features, one.means) for one in subjects]
        sizes = [size for size in own.context if size]
        scores = judge_pseudo_counts(
            subjects, moments, features.scale, sizes, list(own.pseudo_counts), settings.seed, targets.embeddings.device
        )
        chosen = max(scores, key=lambda candidate: scores[candidate])
        prior = VoxelPrior.fit(moments)
        weights = {subject: mean_weights(prior, each).float() for subject, each in zip(known, moments, strict=True)}
        FittedPrior(features, prior, chosen, weights).write(work.folder, scores)
        signal = float(prior.covariance.trace())
        console.print(
            f"  {len(prior.mean)} features explain {100 * signal:.3g} % of a voxel's variance; "
            f"independent noise weighs as {chosen:g} support images"
        )


FIT_VOXEL_PRIOR = FitVoxelPrior()


def known_label(config: DictConfig) -> str:
    """Return the subjects of the training."""
    return "subj" + "-".join(f"{subject:02d}" for subject in config.pretrain.subjects)


def _some_tokens(ids: Sequence[np.ndarray], settings: Settings, targets: Any) -> tuple[np.ndarray, int]:
    """Return tokens `(n, T)` float16 of some images of all subjects, and the number of features."""
    every = np.unique(np.concatenate(ids))
    rng = np.random.default_rng(settings.seed)
    some = np.sort(rng.permutation(every)[: settings.in_context.images])
    return targets.tokens(some)[some].reshape(len(some), -1), settings.in_context.features


def mean_weights(prior: VoxelPrior, moments: Moments) -> Tensor:
    """Return posterior mean weights `(d, V)` of a known subject's voxels."""
    root = torch.linalg.cholesky(prior.covariance + 1e-9 * torch.eye(len(prior.mean), dtype=torch.float64))
    return moments.weights(prior.mean, root, 0.8 * moments.variance).mean


def judge_pseudo_counts(
    subjects: Sequence[KnownSubject],
    moments: Sequence[Moments],
    scale: Tensor,
    sizes: Sequence[int],
    candidates: Sequence[float],
    seed: int,
    device: torch.device,
) -> dict[float, float]:
    """Return the mean retrieval of both directions by candidate, over subjects left out and sizes of the support set.

    Sizes that leave a subject fewer than two other images are not judged; 0 for all candidates if none is left.
    """
    totals = dict.fromkeys(map(float, candidates), 0.0)
    if len(totals) == 1:
        return totals
    for index, subject in enumerate(subjects):
        prior = VoxelPrior.fit([one for other, one in enumerate(moments) if other != index])
        for size in sizes:
            if len(subject.features) - size < 2:
                continue
            rng = np.random.default_rng((seed, index, size))
            episode = subject.draw(rng, size, _JUDGED, device=str(device))
            estimated = estimate_voxels(prior, *vars(episode.support).values())
            for candidate in totals:
                totals[candidate] += _retrieval(estimated, episode, scale, candidate)
    count = max(len(subjects) * len(sizes), 1)
    return {candidate: total / count for candidate, total in totals.items()}


def _retrieval(estimated: EstimatedVoxels, episode: Episode, scale: Tensor, pseudo_count: float) -> float:
    found = infer_features(estimated, episode.responses, pseudo_count=pseudo_count).cpu() * scale
    true = episode.features.cpu() * scale
    pairs = ((found, true), (true, found))
    return float(np.mean([retrieval_accuracy(query=query, gallery=gallery) for query, gallery in pairs]))
