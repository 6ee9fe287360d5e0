"""Scoring every line of the reconstructions' table by the metrics of a protocol.

A protocol (`conf/protocol`) gives the size of images, the networks and what is asked of their features, so that a
number can stand beside the column of a paper. A network whose file is missing leaves its metrics out.

Legend: n test images, m images of a set, F features.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.metrics.fid import set_scores
from mindeye_pl.metrics.identification import correlation_distance_per_image, correlation_matrix
from mindeye_pl.metrics.images import (
    FID,
    KID,
    LPIPS,
    PIXCORR,
    SSIM,
    SSIM_RGB,
    Scored,
    n_way_name,
    score_n_way,
    score_two_way,
)
from mindeye_pl.metrics.perceptual import lpips_per_image
from mindeye_pl.metrics.pixels import pixcorr_per_image, ssim_per_image
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.steps.evaluation.image_sets import FLOOR, OTHERS, PERMUTED_LINES, SEEN, ImageSets
from mindeye_pl.steps.evaluation.optional import Lacking
from mindeye_pl.steps.evaluation.own_metrics import OwnMetric
from mindeye_pl.steps.evaluation.protocol_columns import EMBEDDER, metrics_of, n_way_questions
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_json, read_or_make, read_tensors

_BATCH_SIZE = 32

#: Images `(b, 3, H, W)` in [0, 1] to features `(b, F)` of each layer, by name.
Layers = Callable[[Tensor], dict[str, Tensor]]
#: Scores by line and metric.
Lines = dict[str, dict[str, Scored]]
_PLAIN_LINES = dict[str, dict[str, tuple[list[float], list[float]]]]


@dataclass
class ImageScores:
    """Scores of the reconstructions.

    Attributes:
        values: by line and metric, of each image.
        of_sets: by line, the scores that only a whole set has.
        needs: by metric, what is lacking for it and what brings it.
        absent: metrics of packages that are not installed, which are left out without a message.
    """

    values: Lines
    of_sets: dict[str, list[Score]] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def add(self, more: Lines) -> None:
        """Takes in further metrics."""
        for line, scored in more.items():
            self.values.setdefault(line, {}).update(scored)


class FeaturesOfSets:
    """Features of every set by one network, made when they are asked for; `load` is called where some are missing.

    They lie in files, not in memory: early layers make gigabytes of a thousand images. A killed evaluation finds
    there what was made.
    """

    def __init__(self, folder: Path, sets: ImageSets, load: Callable[[], Any], device: torch.device):
        self._folder, self._sets, self._load, self._device = folder, sets, load, device
        folder.mkdir(parents=True, exist_ok=True)

    def of_set(self, name: str, layer: str) -> Tensor:
        """Return features `(m, F)` float32 of a set in a layer."""
        path = self._folder / f"{name}.safetensors"

        def make() -> None:
            write_tensors(path, self._run(self._sets.batches(name, _BATCH_SIZE)))

        return read_or_make(path, read_tensors, make)[layer].float()

    def of_line(self, name: str, layer: str) -> Tensor:
        """Return features `(n, F)` float32 of a line of the table in a layer."""
        line = self._sets.lines[name]
        return self.of_set(line.set, layer)[line.order]

    @cached_property
    def _network(self) -> Layers:
        return self._load()

    @torch.inference_mode()
    def _run(self, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        parts = [self._network(images.float().to(self._device)) for images in batches]
        return {layer: torch.cat([part[layer].flatten(1).cpu() for part in parts]).contiguous() for layer in parts[0]}


Networks = Mapping[str, FrozenModel | Lacking]


def score_images(
    sets: ImageSets,
    networks: Networks,
    embedder: FrozenModel,
    own: Sequence[OwnMetric],
    protocol: DictConfig,
    folder: Path,
) -> ImageScores:
    """Score every line; a killed evaluation resumes from what it finds in the folder.

    Args:
        sets: the images.
        networks: feature networks of the protocol by name, or `Lacking`.
        embedder: the experiment's own, the network `EMBEDDER` of a protocol.
        own: the user's metrics.
        protocol: node of the configuration.
        folder: of finished parts.
    """
    scores = ImageScores(kept(folder, "pixels", lambda: _pixel_scores(protocol, sets)))
    if protocol.lpips:
        lpips = networks[LPIPS]
        if isinstance(lpips, Lacking):
            scores.needs[LPIPS] = lpips.needs
        else:
            scores.add(kept(folder, LPIPS, partial(_lpips_scores, lpips, sets)))
    for name, settings in protocol.networks.items():
        network = embedder if settings.network == EMBEDDER else networks[settings.network]
        if isinstance(network, Lacking):
            asked = metrics_of(protocol, name, len(sets.stimulus_ids), sets.num_others)
            if settings.get("silent"):
                scores.absent |= {metric.name for metric in asked}
            else:
                scores.needs |= {metric.name: network.needs for metric in asked}
            continue
        features = FeaturesOfSets(folder / settings.network, sets, partial(load_layers, network), network.device)
        scores.add(kept(folder, name, partial(_feature_scores, protocol, name, features, sets)))
        if protocol.fid == name:
            scores.of_sets = _set_scores(protocol, features, sets)
    for metric in own:
        score = partial(metric.score, sets, blocks(len(sets.stimulus_ids)))
        scores.add(kept(folder, f"own-{metric.column.name}", score))
    return scores


def protocol_networks(protocol: DictConfig) -> set[str]:
    """Return the feature networks of `conf/features` that a protocol asks for."""
    names = {str(settings.network) for settings in protocol.networks.values()} | ({LPIPS} if protocol.lpips else set())
    names |= {str(protocol.clip_score.image)} if protocol.clip_score is not None else set()
    return names - {EMBEDDER}


def seen_features(sets: ImageSets, network: FrozenModel, folder: Path) -> Tensor:
    """Return features `(n, F)` float32 of the seen images in a network's deepest layer; arguments as `score_images`."""
    features = FeaturesOfSets(folder / network.name, sets, partial(load_layers, network), network.device)
    return features.of_set(SEEN, network.settings.layers[-1])


def kept(folder: Path, name: str, compute: Callable[[], Lines]) -> Lines:
    """Return the result of `compute`, from the file of an interrupted evaluation where there is one."""
    path = folder / f"scored-{name}.json"

    def make() -> None:
        plain = {line: {m: scored.plain() for m, scored in row.items()} for line, row in compute().items()}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, plain)

    read = read_or_make(path, partial(read_json, kind=_PLAIN_LINES), make)
    return {line: {m: Scored(*map(np.array, pair)) for m, pair in row.items()} for line, row in read.items()}


def _pixel_scores(protocol: DictConfig, sets: ImageSets) -> Lines:
    size, antialias = protocol.pixel_size, protocol.antialias
    parts: dict[str, dict[str, list[Tensor]]] = {line: {PIXCORR: [], SSIM: [], SSIM_RGB: []} for line in sets.lines}
    for rows in blocks(len(sets.stimulus_ids)):
        seen, how = sets.sets[SEEN][rows], {"size": size, "antialias": antialias, "names": sets.names[rows]}
        for line, found in parts.items():
            made = sets.images(line, rows)
            found[PIXCORR].append(pixcorr_per_image(made, seen, **how))
            found[SSIM].append(ssim_per_image(made, seen, form="published", **how))
            found[SSIM_RGB].append(ssim_per_image(made, seen, form="torchmetrics", **how))
    return {
        line: {name: Scored.independent(torch.cat(each)) for name, each in of.items()} for line, of in parts.items()
    }


def _lpips_scores(lpips: FrozenModel, sets: ImageSets) -> Lines:
    device, parts = lpips.device, {line: list[Tensor]() for line in sets.lines}
    network = lpips.load().to(device)
    for rows in blocks(len(sets.stimulus_ids)):
        seen = sets.sets[SEEN][rows].to(device)
        for line, found in parts.items():
            found.append(lpips_per_image(sets.images(line, rows).to(device), seen, network=network))
    return {line: {LPIPS: Scored.independent(torch.cat(found))} for line, found in parts.items()}


def _feature_scores(protocol: DictConfig, name: str, features: FeaturesOfSets, sets: ImageSets) -> Lines:
    """Everything that a protocol asks of one network's features, but for the distance of whole sets."""
    layer, ties = protocol.networks[name].layer, protocol.ties
    questions = n_way_questions(protocol, name, len(sets.stimulus_ids), sets.num_others)
    gallery, scores = features.of_set(SEEN, layer), {}  # (n, F)
    others = features.of_set(OTHERS, layer) if any(question.others for question in questions) else None
    for line in sets.lines:
        query, scored = features.of_line(line, layer), {}
        if name in protocol.two_way or questions:
            correlations = correlation_matrix(query, gallery)  # (n, n), reconstructions as rows
            if name in protocol.two_way:
                scored[f"{name}_two_way"] = score_two_way(correlations, ties=ties)
                scored[f"{name}_two_way_paper"] = score_two_way(correlations.T, ties=ties)
            more = correlations if others is None else torch.cat([correlations, correlation_matrix(query, others)], 1)
            for asked in questions:
                candidates, how = more if asked.others else correlations, {"n": asked.n, "top_k": asked.top_k}
                scored[n_way_name(name, **how)] = score_n_way(candidates, **how, ties=ties)
        if name in protocol.distance:
            scored[f"{name}_distance"] = Scored.independent(correlation_distance_per_image(query, gallery))
        scores[line] = scored
    return scores


def _set_scores(protocol: DictConfig, features: FeaturesOfSets, sets: ImageSets) -> dict[str, list[Score]]:
    """Return the distances of each line's images from the seen ones, and the floor of these distances.

    A permutation of another line's images has none of its own.
    """
    layer, names = protocol.networks[protocol.fid].layer, (FID, KID)
    reference = features.of_set(SEEN, layer)
    lines = [line for line in sets.lines if line not in PERMUTED_LINES]
    scores = {line: set_scores(features.of_line(line, layer), reference, names, paired=True) for line in lines}
    if sets.floor:
        first, second = (features.of_set(name, layer) for name in sets.floor)
        scores[FLOOR] = set_scores(first, second, names)
    return scores


def blocks(count: int) -> list[slice]:
    """The images a few at a time."""
    return [slice(start, start + _BATCH_SIZE) for start in range(0, count, _BATCH_SIZE)]


def load_layers(network: FrozenModel) -> Layers:
    """Return a network of a protocol as a function from images to the features of its layers."""
    model = network.load().to(network.device)
    if network.group == EMBEDDER:
        return lambda images: {EMBEDDER: model.pooled(images).float()}
    return model.features
