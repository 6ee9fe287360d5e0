"""Sets of images that are scored: the reconstructions, null rows without brain data, and ceilings.

Images come in *sets*, each of which a feature network reads once. A *line* of the table is a set in some order:
shuffled brains are the reconstructions in another order, and the mean image is one image that stands for all.

Legend: n test images, m images of a set, S tokens, D token width, H and W image size.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.metrics.images import derangement
from mindeye_pl.metrics.retrieval import cosine_similarity
from mindeye_pl.nn.diffusion.refiner import blend
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.schema.nodes.reports import Baseline
from mindeye_pl.steps.evaluation.scored_images import ScoredImages
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.steps.inputs.targets import ImageTargets

#: The lines of the table. Null lines need no brain; no brain could better the ceilings.
MODEL, BLURRY, REFINED = "model", "blurry", "refined"
MEAN_IMAGE, GREY, OTHER_IMAGE, SHUFFLED, NEAREST = "mean_image", "grey", "other_image", "shuffled", "nearest"
TRUE_TOKENS, VAE = "true_tokens", "vae"
#: Linear baselines, which are sets of their own.
BASELINE_LINES = get_args(Baseline)
NULL_LINES = (GREY, MEAN_IMAGE, OTHER_IMAGE, SHUFFLED)
#: Lines that are another line's images, or the seen ones, in another order.
PERMUTED_LINES = (OTHER_IMAGE, SHUFFLED)
#: Line of two disjoint samples of other images, which has distances between sets alone.
FLOOR = "other_images"

SEEN = "seen"

_BATCH_SIZE = 64
MAX_IMAGES_FOR_MEAN = 2000


@dataclass(frozen=True)
class Line:
    """A line of the table: images of a set, in an order `(n,)` int64 of the set's rows."""

    set: str
    order: Tensor


@dataclass(frozen=True)
class Size:
    """Size in pixels that images are brought to."""

    height: int
    width: int
    antialias: bool

    def resize(self, images: Tensor) -> Tensor:
        """Return images `(m, 3, h, w)` at this size."""
        return _resized(images, (self.height, self.width), self.antialias)

    def resize_all(self, images: Any) -> Tensor:
        """Return `(m, 3, H, W)` float16 in [0, 1], a block at a time: only a block is ever held in float32."""
        parts = [self.resize(torch.as_tensor(block).float()) for block in _blocks(images)]
        return torch.cat([part.clamp(0, 1).half() for part in parts])


@dataclass(frozen=True)
class StoredSet:
    """Images of the dataset that are read when they are asked for."""

    stimuli: Stimuli
    stimulus_ids: np.ndarray
    size: Size

    def split(self, count: int) -> Iterator[Tensor]:
        """Return the images `(count, 3, H, W)` float16 at a time."""
        for start in range(0, len(self.stimulus_ids), count):
            yield self.size.resize_all(self.stimuli.read(self.stimulus_ids[start : start + count]))


@dataclass(frozen=True)
class ImageSets:
    """Everything that is scored, in one size.

    Attributes:
        stimulus_ids: `(n,)` int64 of the seen images.
        sets: `(m, 3, H, W)` float16 in [0, 1] by name, the seen images among them.
        lines: by name.
        floor: two disjoint samples of other images, by names of their own; empty without other images.
    """

    stimulus_ids: np.ndarray
    sets: dict[str, Tensor]
    lines: dict[str, Line]
    floor: dict[str, StoredSet] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return each image's name in messages."""
        return [f"stimulus {id_}" for id_ in self.stimulus_ids]

    def batches(self, name: str, count: int) -> Iterable[Tensor]:
        """Return the images of a set, `count` at a time."""
        return self.floor[name].split(count) if name in self.floor else self.sets[name].split(count)

    def images(self, line: str, rows: slice) -> Tensor:
        """Some of a line's images, float32."""
        chosen = self.lines[line]
        return self.sets[chosen.set][chosen.order[rows]].float()


def collect_sets(
    scored: ScoredImages,
    targets: ImageTargets,
    training_ids: np.ndarray,
    unclip: FrozenModel | None,
    protocol: DictConfig,
    seed: int,
    drawn: Mapping[str, Tensor],
) -> ImageSets:
    """Return the sets and lines that belong to some reconstructions.

    Args:
        scored: the reconstructions.
        targets: of the dataset's images.
        training_ids: `(k,)` ascending, of the subject's training images.
        unclip: its VAE is a ceiling, None without it.
        protocol: node of the configuration; it gives the size of the images.
        seed: of the derangement and of the samples of other images.
        drawn: images `(n, 3, h, w)` of the linear baselines and from true tokens, by line.
    """
    made, ids, stimuli = scored.tensors, scored.stimulus_ids, targets.dataset.stimuli
    size = image_size(protocol, made["images"])
    sets = {MODEL: size.resize_all(made["images"])}
    sets[SEEN] = size.resize_all(stimuli.read(ids))
    for name, key in ((BLURRY, "blurry_images"), (REFINED, "refined_images")):
        if key in made:
            sets[name] = size.resize_all(made[key])
    if REFINED in sets and BLURRY in sets and (weight := protocol.blend):
        sets[REFINED] = blend(sets[REFINED].float(), sets[BLURRY].float(), weight).half()
    sets |= {name: size.resize_all(images) for name, images in drawn.items()}
    sets[MEAN_IMAGE] = mean_image(stimuli, training_ids[:MAX_IMAGES_FOR_MEAN], size)
    sets[GREY] = torch.full_like(sets[MEAN_IMAGE], 0.5)
    if "prior_tokens" in made:
        nearest = nearest_images(made["prior_tokens"], targets, training_ids)
        sets[NEAREST] = size.resize_all(stimuli.read(nearest))
    if unclip is not None and (again := through_vae(unclip, stimuli, ids, size)) is not None:
        sets[VAE] = again
    own, alone = torch.arange(len(ids)), torch.zeros(len(ids), dtype=torch.int64)
    others = derangement(len(ids), seed)
    lines = {MODEL: Line(MODEL, own), MEAN_IMAGE: Line(MEAN_IMAGE, alone), GREY: Line(GREY, alone)}
    lines |= {OTHER_IMAGE: Line(SEEN, others), SHUFFLED: Line(MODEL, others)}
    lines |= {
        name: Line(name, own) for name in (NEAREST, *BASELINE_LINES, BLURRY, REFINED, TRUE_TOKENS, VAE) if name in sets
    }
    halves = sample_others(len(stimuli), ids, seed)
    floor = {f"{FLOOR}_{half}": StoredSet(stimuli, chosen, size) for half, chosen in enumerate(halves)}
    return ImageSets(ids, sets, lines, floor)


def sample_others(num_stimuli: int, test_ids: np.ndarray, seed: int) -> list[np.ndarray]:
    """Draw two disjoint samples of the stimuli that are not test images, ids `(m,)` ascending.

    Each has as many images as the test set, or half of the others if there are fewer; none if there are fewer than 2.
    """
    others = np.setdiff1d(np.arange(num_stimuli), test_ids)
    count = min(len(test_ids), len(others) // 2)
    drawn = np.random.default_rng(seed).permutation(others)[: 2 * count]
    return [np.sort(half) for half in np.split(drawn, 2)] if count > 1 else []


def image_size(protocol: DictConfig, images: Any) -> Size:
    """Return the size that the protocol brings every image to; the reconstructions' own where it names none."""
    side = protocol.size
    height, width = (side, side) if side is not None else (images.shape[-2], images.shape[-1])
    return Size(height, width, protocol.antialias)


def _resized(images: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    if images.shape[-2:] == torch.Size(size):
        return images
    return resize(images, list(size), interpolation=InterpolationMode.BILINEAR, antialias=antialias)


def _blocks(images: Any) -> Iterator[Any]:
    for start in range(0, len(images), _BATCH_SIZE):
        yield images[start : start + _BATCH_SIZE]


def mean_image(stimuli: Stimuli, ids: np.ndarray, size: Size) -> Tensor:
    """Return the mean of images `(k,)`, `(1, 3, H, W)` float16: the best answer without a brain."""
    total = torch.zeros(3, size.height, size.width, dtype=torch.float64)
    for some in _blocks(ids):
        total += size.resize_all(stimuli.read(some)).double().sum(0)
    return (total / len(ids)).half()[None]


def nearest_images(tokens: Tensor, targets: ImageTargets, ids: np.ndarray) -> np.ndarray:
    """Return the ids `(n,)` of the training images `(k,)` with the tokens most similar to predictions `(n, S, D)`."""
    best, found = torch.full((len(tokens),), -2.0), torch.zeros(len(tokens)).long()
    for start in range(0, len(ids), _BATCH_SIZE * 4):
        some = ids[start : start + _BATCH_SIZE * 4]
        similarity = cosine_similarity(query=tokens, gallery=targets.true_tokens(some)).float()  # (n, block)
        value, index = similarity.max(1)
        found = torch.where(value > best, index + start, found)
        best = torch.maximum(best, value)
    return ids[found.numpy()]


@torch.inference_mode()
def through_vae(unclip: FrozenModel, stimuli: Stimuli, ids: np.ndarray, size: Size) -> Tensor | None:
    """Return images `(n,)` through the unCLIP's own VAE and back, what its decoder can draw; None without a VAE."""
    decoder: ImageDecoder = unclip.load().to(unclip.device)
    parts = []
    for start in range(0, len(ids), 8):
        images = torch.from_numpy(stimuli.read(ids[start : start + 8])).float()
        decoded = decoder.autoencode(_resized(images, decoder.image_size, antialias=True).to(unclip.device))
        if decoded is None:
            return None
        parts.append(size.resize_all(decoded.cpu()))
    return torch.cat(parts)
