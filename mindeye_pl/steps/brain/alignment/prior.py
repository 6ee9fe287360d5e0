"""Prior of a closed-form alignment: the pretraining subjects' maps, carried over to the voxels of another subject.

A voxel's weights are the mean, over the other subjects, of the mean weights of its nearest voxels. Voxels are near by
their positions in the mask, or by their tuning: the weights of ridge encoders on axes of image features that all
subjects share.

Legend: N images, n trials, F features, V voxels, h hidden width, k neighbours.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, get_args

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Inputs
from mindeye_pl.metrics.voxel_clusters import FeatureAxes, nearest_voxels, voxel_tuning
from mindeye_pl.models.base import BrainDecoder
from mindeye_pl.nn.in_context.neighbours import mean_weights, nearest_positions
from mindeye_pl.schema.nodes.run import AlignmentPrior
from mindeye_pl.steps.brain.trials import image_means, mean_responses
from mindeye_pl.steps.inputs.brain_positions import VoxelPositions

NO_PRIOR, ANATOMY, TUNING = get_args(AlignmentPrior)

#: Images that the common axes are fitted on.
_MAX_AXES_IMAGES = 2000

#: Returns the voxels nearest to those of one subject, `(V, k)` int64, from another subject and k.
Neighbours = Callable[[int, int], np.ndarray]


class Correspondence(Protocol):
    """Relation of voxels between subjects."""

    def neighbours(self, subject: int, betas: np.ndarray, stimulus_ids: np.ndarray) -> Neighbours:
        """Return what finds the neighbours of a subject's voxels.

        Args:
            subject: any in the data.
            betas: `(n, V)` of the trials by which it is aligned.
            stimulus_ids: `(n,)` of these.
        """


class Anatomy:
    """Voxels at the same place of the mask, brought together by centre and size.

    Args:
        positions: returns `(V, 3)` in mm of a subject's voxels.
    """

    def __init__(self, positions: Callable[[int], np.ndarray]):
        self._positions = positions

    def neighbours(self, subject: int, betas: np.ndarray, stimulus_ids: np.ndarray) -> Neighbours:
        """Return what finds the nearest positions; the trials are not read."""
        own = self._positions(subject)
        return lambda other, count: nearest_positions([self._positions(other)], own, count)


class Tuning:
    """Voxels that respond alike to images.

    Args:
        axes: of the image features, common to all subjects.
        features: returns the features `(N, F)` of images `(N,)`, ascending.
        known: of each pretraining subject the mean responses `(N, V)` to its images and their ids `(N,)`, ascending.
    """

    def __init__(
        self,
        axes: FeatureAxes,
        features: Callable[[np.ndarray], np.ndarray],
        known: Iterable[tuple[int, tuple[np.ndarray, np.ndarray]]],
    ):
        self._axes, self._features = axes, features
        self._known = {subject: self._tuning(*responses) for subject, responses in known}

    def neighbours(self, subject: int, betas: np.ndarray, stimulus_ids: np.ndarray) -> Neighbours:
        """Return what finds the voxels whose tuning correlates most with that in the subject's trials."""
        own = self._tuning(*image_means(betas, stimulus_ids))
        return lambda other, count: nearest_voxels(own, self._known[other], count)

    def _tuning(self, betas: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return voxel_tuning(self._axes.project(self._features(ids)), betas, self._axes.deviations)


class CarriedMaps:
    """Maps of the pretraining subjects, carried over to the voxels of another subject.

    Args:
        weights: `(h, V)` of each pretraining subject's alignment.
        correspondence: of their voxels to those of others.
        count: neighbours of a voxel among those of one subject.
    """

    def __init__(self, weights: Mapping[int, Tensor], correspondence: Correspondence, count: int):
        self._weights, self._correspondence, self._count = weights, correspondence, count

    def __call__(self, subject: int, betas: np.ndarray, stimulus_ids: np.ndarray) -> Tensor:
        """Return the map `(h, V)` of a subject, from the others' alone; arguments as of `Correspondence`."""
        find = self._correspondence.neighbours(subject, betas, stimulus_ids)
        carried = [
            mean_weights(weights, find(other, self._count))
            for other, weights in self._weights.items()
            if other != subject
        ]
        return torch.stack(carried).mean(0)


def carried_maps(
    settings: Settings,
    inputs: Inputs,
    model: BrainDecoder,
    data: TrialDataModule,
    features: Callable[[np.ndarray], np.ndarray],
) -> CarriedMaps | None:
    """Return the prior of `finetune.alignment.prior`, or None.

    Args:
        settings: with this node.
        inputs: with those of `position_inputs`.
        model: pretrained on the data's subjects, which have linear alignments.
        data: training trials of these subjects.
        features: as of `Tuning`.
    """
    wanted = settings.finetune.alignment
    correspondence: Correspondence | None = None
    if wanted.prior == ANATOMY:
        correspondence = Anatomy(lambda subject: inputs[f"positions.{subject}"].coordinates)
    elif wanted.prior == TUNING:
        ids = np.unique(np.concatenate([trials.stimulus_ids for trials in data.train_trials]))
        axes = FeatureAxes.fit(features(ids[:: -(-len(ids) // _MAX_AXES_IMAGES)]), wanted.prior_axes)
        known = ((subject, mean_responses(data, subject)) for subject in data.subjects)
        correspondence = Tuning(axes, features, known)
    if correspondence is None:
        return None
    weights = {}
    for index, subject in enumerate(data.subjects):
        of_subject = model.voxel_weights(index)
        assert of_subject is not None, "the alignment is linear"
        weights[subject] = of_subject
    return CarriedMaps(weights, correspondence, wanted.prior_neighbours)


def position_inputs(config: DictConfig, subjects: list[int]) -> dict[str, Input]:
    """Return the inputs of an anatomical prior, none of other priors."""
    if config.finetune.alignment.prior != ANATOMY:
        return {}
    return {f"positions.{subject}": VoxelPositions(subject) for subject in subjects}
