"""Sets of images that are scored: the reconstructions, null rows without brain data, and ceilings.

Images come in *sets*, each of which a feature network reads once. A *line* of the table is a set in some order:
shuffled brains are the reconstructions in another order, and the mean image is one image that stands for all.

Legend: n test images, m images of a set, S tokens, D token width, H and W image size.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.metrics.images import derangement
from mindeye_pl.metrics.retrieval import cosine_similarity
from mindeye_pl.nn.diffusion.refiner import blend
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.schema.nodes.reports import Baseline
from mindeye_pl.steps.evaluation.protocol_columns import num_others_asked
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
#: Set of other images of the data set, candidates of n-way identification among more than the test images.
OTHERS = "others"

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


class ImageRows(Protocol):
    """Images in [0, 1] by row: a tensor, or what reads them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@dataclass(frozen=True)
class StoredImages:
    """Images of the dataset, by row of their ids `(m,)`."""

    stimuli: Stimuli
    stimulus_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.stimulus_ids)

    def __getitem__(self, rows: Any) -> Tensor:
        return torch.from_numpy(self.stimuli.read(self.stimulus_ids[rows]))


@dataclass(frozen=True)
class ImageSet:
    """Images of one set at the scored size, resized when they are asked for and never rounded.

    Attributes:
        source: m images of any size.
        size: the scored size.
        blended: m images of which a share is mixed in, at the scored size; None without.
        share: of those.
    """

    source: ImageRows
    size: Size
    blended: ImageRows | None = None
    share: float = 0.0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> Tensor:
        """Return images `(k, 3, H, W)` float32 in [0, 1]."""
        images = self._resized(self.source, rows)
        return images if self.blended is None else blend(images, self._resized(self.blended, rows), self.share)

    def _resized(self, source: ImageRows, rows: Any) -> Tensor:
        return self.size.resize(torch.as_tensor(source[rows]).float()).clamp(0, 1)

    def split(self, count: int) -> Iterator[Tensor]:
        """Return all images, `count` at a time."""
        for start in range(0, len(self), count):
            yield self[start : start + count]


@dataclass(frozen=True)
class ImageSets:
    """Everything that is scored, in one size.

    Attributes:
        stimulus_ids: `(n,)` int64 of the seen images.
        sets: by name, the seen images among them.
        lines: by name.
        floor: two disjoint samples of other images, by names of their own; empty without other images.
        others: the set `OTHERS` alone; empty if no question needs it.
    """

    stimulus_ids: np.ndarray
    sets: dict[str, ImageSet]
    lines: dict[str, Line]
    floor: dict[str, ImageSet] = field(default_factory=dict)
    others: dict[str, ImageSet] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return each image's name in messages."""
        return [f"stimulus {id_}" for id_ in self.stimulus_ids]

    def batches(self, name: str, count: int) -> Iterable[Tensor]:
        """Return the images of a set, `count` at a time."""
        return (self.floor | self.others | self.sets)[name].split(count)

    @property
    def num_others(self) -> int:
        """Return how many other images of the data set are candidates."""
        return sum(map(len, self.others.values()))

    def images(self, line: str, rows: slice) -> Tensor:
        """Some of a line's images, float32."""
        chosen = self.lines[line]
        return self.sets[chosen.set][chosen.order[rows]]


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
    sources: dict[str, ImageRows] = {MODEL: made["images"], SEEN: StoredImages(stimuli, ids), **drawn}
    for name, key in ((BLURRY, "blurry_images"), (REFINED, "refined_images")):
        if key in made:
            sources[name] = made[key]
    mean = mean_image(stimuli, training_ids[:MAX_IMAGES_FOR_MEAN], size)
    sources |= {MEAN_IMAGE: mean, GREY: torch.full_like(mean, 0.5)}
    if "prior_tokens" in made:
        sources[NEAREST] = StoredImages(stimuli, nearest_images(made["prior_tokens"], targets, training_ids))
    if unclip is not None and (again := through_vae(unclip, stimuli, ids, size)) is not None:
        sources[VAE] = again
    sets = {name: ImageSet(images, size) for name, images in sources.items()}
    refined = MODEL if scored.are_refined else REFINED
    if refined in sources and BLURRY in sources and protocol.blend:
        sets[refined] = ImageSet(sources[refined], size, sources[BLURRY], protocol.blend)
    own, alone = torch.arange(len(ids)), torch.zeros(len(ids), dtype=torch.int64)
    others = derangement(len(ids), seed)
    lines = {MODEL: Line(MODEL, own), MEAN_IMAGE: Line(MEAN_IMAGE, alone), GREY: Line(GREY, alone)}
    lines |= {OTHER_IMAGE: Line(SEEN, others), SHUFFLED: Line(MODEL, others)}
    lines |= {
        name: Line(name, own) for name in (NEAREST, *BASELINE_LINES, BLURRY, REFINED, TRUE_TOKENS, VAE) if name in sets
    }
    halves = sample_others(len(stimuli), ids, seed)
    others_of = {f"{FLOOR}_{half}": StoredImages(stimuli, chosen) for half, chosen in enumerate(halves)}
    floor = {name: ImageSet(images, size) for name, images in others_of.items()}
    candidates = draw_candidates(len(stimuli), ids, num_others_asked(protocol, len(ids)), seed)
    more = {OTHERS: ImageSet(StoredImages(stimuli, candidates), size)} if len(candidates) else {}
    return ImageSets(ids, sets, lines, floor, more)


def draw_candidates(num_stimuli: int, test_ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw up to `count` stimuli that are not test images, ids `(m,)` ascending."""
    others = np.setdiff1d(np.arange(num_stimuli), test_ids)
    return np.sort(np.random.default_rng(seed).permutation(others)[:count])


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


def mean_image(stimuli: Stimuli, ids: np.ndarray, size: Size) -> Tensor:
    """Return the mean of images `(k,)`, `(1, 3, H, W)` float32: the best answer without a brain."""
    total = torch.zeros(3, size.height, size.width, dtype=torch.float64)
    for some in ImageSet(StoredImages(stimuli, ids), size).split(_BATCH_SIZE):
        total += some.double().sum(0)
    return (total / len(ids)).float()[None]


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
        parts.append(size.resize(decoded.float().cpu()).clamp(0, 1))
    return torch.cat(parts)
