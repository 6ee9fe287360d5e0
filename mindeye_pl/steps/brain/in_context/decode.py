"""Predictions of a new subject's test images from support sets of several sizes.

Legend: N training images in the sessions in use, n support images, m test images, V voxels, d features, T values of an
image's tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.brain_mask import BrainMask
from mindeye_pl.data.layout.test_set import average_repetitions
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import RECONSTRUCTIONS, Input, Inputs, Made, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.ridge_tuning import image_means
from mindeye_pl.nn.in_context.episodes import Support
from mindeye_pl.nn.in_context.inversion import infer_features
from mindeye_pl.nn.in_context.neighbours import near_means
from mindeye_pl.nn.in_context.support import estimate_voxels
from mindeye_pl.nn.in_context.transformer import VoxelTransformer
from mindeye_pl.steps.brain.in_context.known_subjects import in_context_trials
from mindeye_pl.steps.brain.in_context.prior import FIT_VOXEL_PRIOR, FittedPrior
from mindeye_pl.steps.brain.in_context.transformer import PRETRAIN_VOXEL_TRANSFORMER, load_transformer
from mindeye_pl.steps.brain.trials import subject_tags
from mindeye_pl.steps.inputs.brain_positions import VoxelPositions
from mindeye_pl.steps.inputs.dataset import Dataset
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.steps.inputs.targets import ImageTargets, Targets
from mindeye_pl.store.atomic import write_tensors
from mindeye_pl.store.own_files import read_or_make, read_tensors

#: Values of `in_context.decoder`, the lines of the predictions.
BAYESIAN, TRANSFORMER = "bayesian", "transformer"

#: Settings of the support sets and of the test set.
SUPPORT_KEYS = (
    *("seed", "data.subject", "data.num_sessions", "data.repetitions", "data.max_repetitions", "data.test_split"),
    *("in_context.context", "in_context.draws"),
)
SUPPORT_RUNTIME = ("data.test_images_in_training",)


class DecodeInContext(Step):
    """Predicts image features of the test images for each size and draw of the support set."""

    name = "decode_in_context"
    title = "Decoding from a support set"
    keys = (*SUPPORT_KEYS, "in_context.decoder", "in_context.correspondence", "in_context.neighbours")
    runtime_keys = SUPPORT_RUNTIME
    artifact_type = RECONSTRUCTIONS

    def label(self, config: DictConfig) -> str:
        """Return subject and decoder."""
        return f"subj{config.data.subject:02d}-{config.in_context.decoder}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return subject_tags(config)

    def check(self, config: DictConfig) -> None:
        """Check that the subject is a new one."""
        if config.data.subject in config.pretrain.subjects:
            what, got = "the subject of in_context is no new one", f"data.subject={config.data.subject} among them"
            raise UserError(what, got=got, expected="pretrain.subjects without it", fix="another data.subject")

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the subject's data, the prior, and what `decoder` and `correspondence` need."""
        made: dict[str, Input] = {"prior": Made(FIT_VOXEL_PRIOR)}
        if config.in_context.decoder == TRANSFORMER:
            made["transformer"] = Made(PRETRAIN_VOXEL_TRANSFORMER)
        if config.in_context.correspondence == "positions":
            subjects = [config.data.subject, *config.pretrain.subjects]
            made |= {f"positions.{subject}": VoxelPositions(subject) for subject in subjects}
        return {"data": test_data(config), "split": Split(), "targets": Targets(), **made}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Predict; each support set's predictions are a file, so that a killed build continues."""
        sets = SupportSets.read(inputs["data"], settings, inputs["split"])
        targets, own = inputs["targets"], settings.in_context
        decoder = InContextDecoder(
            FittedPrior.read(inputs["prior"]),
            load_transformer(inputs["transformer"]) if "transformer" in inputs else None,
            _near_means(inputs, settings) if own.correspondence == "positions" else None,
            targets.embeddings.device,
        )
        for size, draw in sets.draws(own.context, own.draws):
            path, rows = work.folder / part_name(size, draw), sets.rows(size, draw)
            read_or_make(path, read_tensors, partial(_write_part, path, decoder, sets, rows, targets))


DECODE_IN_CONTEXT = DecodeInContext()


def part_name(size: int, draw: int) -> str:
    """Return the name of the file of one support set: `stimulus_ids`, `support_ids`, and features `(m, d)` by line."""
    return f"support-{size:05d}-{draw}.safetensors"


@dataclass(frozen=True)
class SupportSets:
    """Training images of the new subject, of which support sets are drawn, and its test set.

    Attributes:
        ids: `(N,)` int64 of the images, ascending.
        means: `(N, V)` float32, mean response to each.
        counts: `(N,)` responses of each.
        responses: `(t, V)` float32 of single trials.
        shown: `(t,)` int64, the image of each trial.
        test_ids: `(m,)` int64.
        test_responses: `(m, V)` float32, averaged over repetitions.
        seed: of the draws.
    """

    ids: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    responses: np.ndarray
    shown: np.ndarray
    test_ids: Tensor
    test_responses: Tensor
    seed: int

    @classmethod
    def read(cls, dataset: Dataset, settings: Settings, left_out: Any) -> Self:
        """Read the sessions in use and the test set; a `UserError` if a support set has more images than there are."""
        subject, sessions = settings.data.subject, settings.data.num_sessions
        data = in_context_trials(dataset, settings, left_out, [subject], sessions)
        (trials,) = data.train_trials
        ids, counts = np.unique(trials.stimulus_ids, return_counts=True)
        if (most := max(settings.in_context.context)) > len(ids):
            what = f"in_context.context is more than the training images of subject {subject} in the sessions in use"
            raise UserError(what, got=most, expected=f"up to {len(ids)}", fix="data.num_sessions=all, or fewer images")
        betas, brains = read_betas(data.layout, subject, trials.beta_rows), data.test_set(subject)
        means, shown = image_means(betas, trials.stimulus_ids), trials.stimulus_ids
        tested = average_repetitions(brains.voxels, brains.weights)
        return cls(ids, means, counts, betas, shown, brains.stimulus_ids, tested, settings.seed)

    @staticmethod
    def draws(sizes: list[int], count: int) -> list[tuple[int, int]]:
        """Return size and number of each support set; without images there is one."""
        return [(size, draw) for size in dict.fromkeys(sizes) for draw in range(count if size else 1)]

    def rows(self, size: int, draw: int) -> np.ndarray:
        """Draw the images of a support set, `(n,)` ascending rows of `ids`; a larger one of a draw has the smaller."""
        return np.sort(np.random.default_rng((self.seed, draw)).permutation(len(self.ids))[:size])

    def support(self, rows: np.ndarray, features: Tensor) -> Support:
        """Return the support set of some images with features `(n, d)`."""
        return Support(features, torch.from_numpy(self.means[rows]), torch.from_numpy(self.counts[rows]))


@dataclass(frozen=True)
class InContextDecoder:
    """Support set and responses to image features.

    Attributes:
        fitted: prior and features.
        transformer: corrects the closed form, None without.
        means: `(d, V)` prior means of the subject's voxels, None for those of all voxels.
        device: of the computations.
    """

    fitted: FittedPrior
    transformer: VoxelTransformer | None
    means: Tensor | None
    device: torch.device

    @torch.inference_mode()
    def decode(self, support: Support, responses: Tensor) -> dict[str, Tensor]:
        """Return features `(m, d)` float32 of responses `(m, V)`, by decoder."""
        given = [each.to(self.device) for each in vars(support).values()]
        voxels, responses = estimate_voxels(self.fitted.prior, *given, means=self.means), responses.to(self.device)
        how = {"pseudo_count": self.fitted.pseudo_count}
        found = {BAYESIAN: infer_features(voxels, responses, **how)}
        if self.transformer is not None:
            parts = [self.transformer.to(self.device)(voxels, some, **how) for some in responses.split(64)]
            found[TRANSFORMER] = torch.cat(parts)
        return {line: each.float().cpu() for line, each in found.items()}


def _write_part(
    path: Path, decoder: InContextDecoder, sets: SupportSets, rows: np.ndarray, targets: ImageTargets
) -> None:
    shown = sets.ids[rows]
    features = decoder.fitted.features.encode(targets.tokens(shown)[shown])
    found = decoder.decode(sets.support(rows, features), sets.test_responses)
    write_tensors(path, {"support_ids": torch.from_numpy(shown), "stimulus_ids": sets.test_ids, **found})


def predicted_tokens(fitted: FittedPrior, features: Tensor) -> Tensor:
    """Return tokens `(m, T)` float32 of predicted features `(m, d)`, as far from the mean as those of images."""
    return fitted.features.decode(fitted.features.to_norm(features))


def _near_means(inputs: Inputs, settings: Settings) -> Tensor:
    fitted = FittedPrior.read(inputs["prior"])
    masks: dict[int, BrainMask] = {subject: inputs[f"positions.{subject}"] for subject in fitted.weights}
    known = [(masks[subject].coordinates, weights.double()) for subject, weights in fitted.weights.items()]
    own: BrainMask = inputs[f"positions.{settings.data.subject}"]
    return near_means(known, own.coordinates, settings.in_context.neighbours)
