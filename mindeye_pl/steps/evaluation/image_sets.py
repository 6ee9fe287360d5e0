"""What is scored: the reconstructions, and beside them what needs no brain and what no brain could better.

Images come in *sets*, each of which a feature network reads once. A *line* of the table is a set in some order:
shuffled brains are the reconstructions in another order, and the mean image is one image that stands for all.

Legend: n test images, m images of a set, S tokens, D token width, H and W image size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.engine.step import Run
from mindeye_pl.metrics.images import derangement
from mindeye_pl.metrics.retrieval import cosine_similarity
from mindeye_pl.nn.image_decoder import ImageDecoder
from mindeye_pl.steps.brain.trials import subject_data
from mindeye_pl.steps.inputs.captions import true_tokens
from mindeye_pl.steps.inputs.frozen_models import is_there, load_model
from mindeye_pl.steps.inputs.simulate import layout

#: The lines of the table. Null lines need no brain; no brain could better the ceilings.
MODEL, BLURRY, REFINED = "model", "blurry", "refined"
MEAN_IMAGE, GREY, OTHER_IMAGE, SHUFFLED, NEAREST = "mean_image", "grey", "other_image", "shuffled", "nearest"
TRUE_TOKENS, VAE = "true_tokens", "vae"
NULL_LINES = (GREY, MEAN_IMAGE, OTHER_IMAGE, SHUFFLED)
CEILING_LINES = (TRUE_TOKENS, VAE)

SEEN = "seen"

_AT_ONCE = 64
_MOST_FOR_MEAN = 2000


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        set: whose images it shows.
        order: `(n,)` int64, the set's row that stands beside each seen image.
    """

    set: str
    order: Tensor


@dataclass(frozen=True)
class ImageSets:
    """Everything that is scored, in one size.

    Attributes:
        stimulus_ids: `(n,)` int64 of the seen images.
        sets: `(m, 3, H, W)` float16 in [0, 1] by name, the seen images among them.
        lines: by name.
    """

    stimulus_ids: np.ndarray
    sets: dict[str, Tensor]
    lines: dict[str, Line]

    @property
    def names(self) -> list[str]:
        """What a message calls each image."""
        return [f"stimulus {id_}" for id_ in self.stimulus_ids]

    def images(self, line: str, rows: slice) -> Tensor:
        """Some of a line's images, float32."""
        chosen = self.lines[line]
        return self.sets[chosen.set][chosen.order[rows]].float()


def gather(run: Run, made: Mapping[str, Any]) -> ImageSets:
    """The sets and lines that belong to some reconstructions.

    Args:
        run: its protocol gives the size of the images.
        made: as of `scored_images`: `stimulus_ids` and `images`, the rest where there is some.
    """
    ids = made["stimulus_ids"].numpy()
    size = image_size(run, made["images"])
    sets = {MODEL: _brought_to(run, made["images"], size)}
    sets[SEEN] = _brought_to(run, Stimuli(layout(run).stimuli).read(ids), size)
    for name, key in ((BLURRY, "blurry_images"), (REFINED, "refined_images"), (TRUE_TOKENS, "images_from_true_tokens")):
        if key in made:
            sets[name] = _brought_to(run, made[key], size)
    if REFINED in sets and BLURRY in sets and (share := run.config.protocol.blend):
        sets[REFINED] = ((1 - share) * sets[REFINED].float() + share * sets[BLURRY].float()).half()
    sets[MEAN_IMAGE] = _mean_image(run, size)
    sets[GREY] = torch.full_like(sets[MEAN_IMAGE], 0.5)
    if "prior_tokens" in made:
        sets[NEAREST] = _brought_to(run, _nearest_training(run, made["prior_tokens"]), size)
    if is_there(run, "unclip") and (again := _through_vae(run, ids, size)) is not None:
        sets[VAE] = again
    own, alone = torch.arange(len(ids)), torch.zeros(len(ids), dtype=torch.int64)
    lot = derangement(len(ids), run.config.seed)
    lines = {MODEL: Line(MODEL, own), MEAN_IMAGE: Line(MEAN_IMAGE, alone), GREY: Line(GREY, alone)}
    lines |= {OTHER_IMAGE: Line(SEEN, lot), SHUFFLED: Line(MODEL, lot)}
    lines |= {name: Line(name, own) for name in (NEAREST, BLURRY, REFINED, TRUE_TOKENS, VAE) if name in sets}
    return ImageSets(ids, sets, lines)


def image_size(run: Run, images: Any) -> tuple[int, int]:
    """(H, W) that the protocol brings every image to; the reconstructions' own where it says none."""
    side = run.config.protocol.size
    return (side, side) if side is not None else (images.shape[-2], images.shape[-1])


def _brought_to(run: Run, images: Any, size: tuple[int, int]) -> Tensor:
    """`(m, 3, H, W)` float16, a block at a time, so that only a block is ever held in float32."""
    antialias = run.config.protocol.antialias
    parts = [_resized(torch.as_tensor(part).float(), size, antialias) for part in _blocks(images)]
    return torch.cat([part.clamp(0, 1).half() for part in parts])


def _resized(images: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    if images.shape[-2:] == torch.Size(size):
        return images
    return resize(images, list(size), interpolation=InterpolationMode.BILINEAR, antialias=antialias)


def _blocks(images: Any) -> Iterator[Any]:
    for start in range(0, len(images), _AT_ONCE):
        yield images[start : start + _AT_ONCE]


def training_ids(run: Run) -> np.ndarray:
    """The images that the model's subject saw in training, `(n,)` ascending."""
    return np.unique(subject_data(run).train_trials[0].stimulus_ids)


def _mean_image(run: Run, size: tuple[int, int]) -> Tensor:
    """The mean of images that the subject saw in training, `(1, 3, H, W)`: what one can say without a brain."""
    ids, stimuli = training_ids(run)[:_MOST_FOR_MEAN], Stimuli(layout(run).stimuli)
    total = torch.zeros(3, *size, dtype=torch.float64)
    for start in range(0, len(ids), _AT_ONCE):
        total += _brought_to(run, stimuli.read(ids[start : start + _AT_ONCE]), size).double().sum(0)
    return (total / len(ids)).half()[None]


def _nearest_training(run: Run, tokens: Tensor) -> np.ndarray:
    """For each prediction the training image whose target tokens are the most similar: retrieval in place of drawing.

    Args:
        run: whose training images they are.
        tokens: `(n, S, D)` predicted.
    """
    ids = training_ids(run)
    best, found = torch.full((len(tokens),), -2.0), torch.zeros(len(tokens)).long()
    for start in range(0, len(ids), _AT_ONCE * 4):
        some = ids[start : start + _AT_ONCE * 4]
        similarity = cosine_similarity(query=tokens, gallery=true_tokens(run, some)).float()  # (n, block)
        value, place = similarity.max(1)
        found = torch.where(value > best, place + start, found)
        best = torch.maximum(best, value)
    return Stimuli(layout(run).stimuli).read(ids[found.numpy()])


@torch.inference_mode()
def _through_vae(run: Run, ids: np.ndarray, size: tuple[int, int]) -> Tensor | None:
    """Return the seen images after encoding and decoding by the image decoder's own VAE; None if it has none."""
    device = run.device
    image_decoder: ImageDecoder = load_model(run, "unclip").to(device)
    stimuli, parts = Stimuli(layout(run).stimuli), []
    for start in range(0, len(ids), 8):
        images = torch.from_numpy(stimuli.read(ids[start : start + 8])).float()
        decoded = image_decoder.autoencode(_resized(images, image_decoder.image_size, antialias=True).to(device))
        if decoded is None:
            return None
        parts.append(_brought_to(run, decoded.cpu(), size))
    return torch.cat(parts)
