"""Brain correlation of every line: would the reconstruction evoke what was measured?

Legend: n test images, m images of a set, R responses to each, V voxels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.data.layout.betas import betas_shape, read_noise_free
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.layout.test_set import TestSet, average_repetitions
from mindeye_pl.metrics.brain_correlation import brain_correlation_by_region, voxel_correlation_per_voxel
from mindeye_pl.metrics.images import Scored, TableMetric
from mindeye_pl.metrics.noise_ceiling import ceiling_between_repetitions_per_image, effective_repetitions
from mindeye_pl.steps.evaluation.encoder import load_encoder
from mindeye_pl.steps.evaluation.image_scores import ImageScores, blocks, kept
from mindeye_pl.steps.evaluation.image_sets import SEEN, ImageSets
from mindeye_pl.steps.evaluation.optional import Lacking
from mindeye_pl.steps.inputs.dataset import Dataset
from mindeye_pl.steps.inputs.encoder_features import encoder_features
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.store.atomic import write_arrays
from mindeye_pl.store.own_files import read_or_make, read_tensors

RIDGE, GNET = "ridge", "gnet"
TITLES = {RIDGE: "ridge encoder", GNET: "GNet"}

#: A line that only these scores have: the seen images themselves through the encoder.
TRUE_IMAGE = "true_image"

#: The region of data without region masks.
ALL_VOXELS = "all_voxels"
_REGION_TITLES = {ALL_VOXELS: "all voxels", "nsd_general": "visual cortex", "higher_vis": "higher"}

Encoder = Callable[[Tensor], np.ndarray]


@dataclass
class BrainCeilings:
    """Ceilings of the scores of each region.

    Attributes:
        across_voxels: by region, what a perfect prediction would correlate across voxels with the measured betas.
        source: how that is known, in words.
        normalised: by encoder, line and region, the correlation across images over the noise ceiling, mean of voxels.
    """

    across_voxels: dict[str, float] = field(default_factory=dict)
    source: str = ""
    normalised: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class BrainReference:
    """Measured responses to the seen images, in their order, that brain correlations are compared with."""

    dataset: Dataset
    subject: int
    regions: dict[str, np.ndarray | None]  # masks (V,) bool by name; None where the data have no masks
    brains: TestSet


def scored_regions(
    layout: DataLayout, subject: int, wanted: Sequence[str] | None, region_masks: Path | None
) -> dict[str, np.ndarray | None]:
    """Return the masks `(V,)` bool of the regions that are scored, None for each wanted one where there is no file.

    With nothing wanted these are all regions of the file, or all voxels.
    """
    if region_masks is not None:
        return {**read_regions(layout, subject, wanted)}
    if wanted is not None:
        return dict.fromkeys(wanted)
    return {ALL_VOXELS: np.ones(betas_shape(layout, subject)[1], bool)}


def brain_metrics(encoders: Sequence[str], regions: Iterable[str]) -> list[TableMetric]:
    """Return the columns of the brain correlations' tables, for some encoders and regions."""
    metrics = []
    for encoder, region in product(encoders, regions):
        by, title = TITLES[encoder], region_title(region)
        question = f"Would it evoke what was measured in {title}, by the {by}? Correlation across voxels."
        metrics.append(TableMetric(metric_name(encoder, region), title, question, group=f"Brain correlation, {by}"))
    return metrics


def region_title(region: str) -> str:
    """Return a region's name in tables and charts."""
    return _REGION_TITLES.get(region, region.replace("_", " "))


def metric_name(encoder: str, region: str) -> str:
    """As in `brain_ridge_V1`."""
    return f"brain_{encoder}_{region}"


def score_brains(
    sets: ImageSets,
    reference: BrainReference,
    encoders: Mapping[str, Encoder | Lacking],
    folder: Path,
    scores: ImageScores,
) -> BrainCeilings:
    """Add the brain correlations of every line, by each available encoder, to `scores`; return their ceilings."""
    data = reference.dataset.layout
    if missing := [name for name, mask in reference.regions.items() if mask is None]:
        needs = f"needs {data.region_masks} (docs/data.md)"
        scores.needs |= {metric.name: needs for metric in brain_metrics(list(encoders), missing)}
        return BrainCeilings()
    regions = {name: mask for name, mask in reference.regions.items() if mask is not None and mask.sum() >= 2}
    brains = reference.brains
    measured = average_repetitions(brains.voxels, brains.weights)  # (n, V)
    ceilings = _ceilings(reference, measured, regions)
    ncsnr = read_ncsnr(data, reference.subject)
    averaged = effective_repetitions(brains.voxels, brains.weights)
    for name, encoder in encoders.items():
        if isinstance(encoder, Lacking):
            scores.needs |= {metric_name(name, region): encoder.needs for region in reference.regions}
            continue
        predicted = _predictions(encoder, sets, folder / f"betas-{name}.safetensors")

        def of_lines(chosen: str = name, betas: dict[str, Tensor] = predicted) -> dict[str, dict[str, Scored]]:
            return {
                line: {
                    metric_name(chosen, region): Scored.independent(each)
                    for region, each in brain_correlation_by_region(of_line, measured, regions).items()
                }
                for line, of_line in betas.items()
            }

        scores.add(kept(folder, f"brain-{name}", of_lines))
        if ncsnr is not None and len(measured) > 1:
            ceilings.normalised[name] = {
                line: _normalised(of_line, measured, regions, ncsnr, averaged) for line, of_line in predicted.items()
            }
    return ceilings


def _predictions(encoder: Encoder, sets: ImageSets, path: Path) -> dict[str, Tensor]:
    """Return betas `(n, V)` by line, each set encoded once."""

    def make() -> None:
        made = {
            key: np.concatenate([encoder(images[rows]) for rows in blocks(len(images))])
            for key, images in sets.sets.items()
        }
        write_arrays(path, made)

    betas = read_or_make(path, read_tensors, make)
    lines = {line: betas[chosen.set][chosen.order] for line, chosen in sets.lines.items()}
    return lines | {TRUE_IMAGE: betas[SEEN]}


def gnet_encoder(network: FrozenModel, subject: int) -> Encoder:
    """Return GNet as a function from images to betas of a subject."""
    device = network.device
    gnet = network.load().to(device)

    @torch.inference_mode()
    def encode(images: Tensor) -> np.ndarray:
        return gnet.predict(images.to(device), subject).cpu().numpy()

    return encode


def ridge_encoder(folder: Path, embedder: FrozenModel, sets: ImageSets) -> Encoder:
    """Return the subject's ridge encoder; it refuses a test image that it was fitted on."""
    encoder, features = load_encoder(folder), encoder_features(embedder)
    encoder.predict(features(sets.sets[SEEN][:1]).numpy(), stimulus_ids=sets.stimulus_ids)
    return lambda images: encoder.predict(features(images).numpy())


def _normalised(
    predicted: Tensor, measured: Tensor, regions: dict[str, np.ndarray], ncsnr: np.ndarray, averaged: Tensor
) -> dict[str, float]:
    """Correlation across images over each voxel's noise ceiling, mean of a region's voxels."""
    return {
        region: float(
            voxel_correlation_per_voxel(predicted, measured, mask, ncsnr=ncsnr, repetitions=averaged).nanmean()
        )
        for region, mask in regions.items()
    }


def _ceilings(reference: BrainReference, measured: Tensor, regions: dict[str, np.ndarray]) -> BrainCeilings:
    brains, dataset = reference.brains, reference.dataset
    if dataset.is_simulated:
        clean = torch.from_numpy(read_noise_free(dataset.layout, reference.subject, brains.stimulus_ids.numpy()))
        found = {
            region: float(each.mean()) for region, each in brain_correlation_by_region(clean, measured, regions).items()
        }
        return BrainCeilings(found, "the responses without noise")
    found = {}
    for region, mask in regions.items():
        each = ceiling_between_repetitions_per_image(brains.voxels, mask, weights=brains.weights)
        if not each.isnan().all():
            found[region] = float(each.nanmean())
    return BrainCeilings(found, "how well repetitions agree")
