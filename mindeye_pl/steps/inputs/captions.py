"""The captions that a training learns: those that fit the images as they were shown, embedded once and kept.

Legend: N images in the images file, n images asked for, C captions of an image at most, D embedding width.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.caption_screening import RULES, ScreeningRule
from mindeye_pl.data.layout.stimuli import CAPTIONS_LAYOUT, read_captions
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, FingerprintOf, Input, Inputs, Made, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.metrics.captions.similarity import TextEmbedder
from mindeye_pl.nn.clip.embeddings import clamp_then_normalise
from mindeye_pl.steps.inputs.dataset import CAPTIONS, DataFile, Images
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache, Embeddings
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel, has_part
from mindeye_pl.steps.inputs.image_embeddings import pooled_embeddings
from mindeye_pl.store.artifacts import FACTS
from mindeye_pl.store.atomic import write_json, write_text
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint_file

#: The kept captions of every image, in the layout of the data's own file.
CAPTIONS_FILE = "captions.json"

_BATCH_SIZE = 256


def learns_captions(config: DictConfig) -> bool:
    """Return whether the run's model learns embeddings of captions; then there must be a text embedder."""
    if not has_part(config, "caption_mapper"):
        return False
    check_text_embedder(config)
    return True


def check_text_embedder(config: DictConfig) -> None:
    """Raise a `UserError` where the configuration has no text embedder."""
    if config.get("text_embedder") is None:
        raise UserError(
            "captions need a text embedder", got="text_embedder=none", fix="text_embedder=laptop, or clip_b32"
        )


def screening_rule(settings: DictConfig) -> ScreeningRule:
    """Return the rule that says which captions are kept, from the node of the text embedder."""
    return RULES[settings.screening.rule]


class ScreenCaptions(Step):
    """Keeps the captions that fit the images as they were shown, by CLIP."""

    name = "screen_captions"
    title = "Screening of captions"
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return the text embedder and the rule."""
        return f"{config.text_embedder.name}-{config.text_embedder.screening.rule}"

    def check(self, config: DictConfig) -> None:
        """Check that there are a text embedder and a rule."""
        check_text_embedder(config)
        screening_rule(config.text_embedder)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return images, captions and both towers of a CLIP."""
        return {
            "images": Images(),
            "captions": DataFile(CAPTIONS, required=True),
            "embedder": Frozen("embedder"),
            "text_embedder": Frozen("text_embedder"),
            "embeddings": Embeddings(),
        }

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write the kept captions of every image."""
        dataset, towers = inputs["images"], (inputs["embedder"], inputs["text_embedder"])
        captions = read_captions(inputs["captions"], len(dataset.stimuli))
        pooled = pooled_embeddings(towers[0], dataset, inputs["embeddings"], len(dataset.stimuli))  # (N, E)
        kept = screened(captions, pooled, *towers)
        num_kept, without = sum(map(len, kept)), sum(not one for one in kept)
        counts = {"kept": num_kept, "dropped": sum(map(len, captions)) - num_kept, "images_without": without}
        console.print(f"  {counts['kept']:,} captions kept, {counts['dropped']:,} dropped of {len(kept):,} images")
        write_text(work.folder / CAPTIONS_FILE, json.dumps(kept, ensure_ascii=False))
        write_json(work.folder / FACTS, counts)


SCREEN_CAPTIONS = ScreenCaptions()


def screened(
    captions: list[list[str]], pooled: np.ndarray, image_tower: FrozenModel, text_tower: FrozenModel
) -> list[list[str]]:
    """Return the captions of N images that the text tower's rule keeps; towers of two CLIPs are refused.

    Args:
        captions: of every image.
        pooled: `(N, E)` embeddings of the images by the image tower.
        image_tower: of CLIP.
        text_tower: of the same CLIP.
    """
    settings = text_tower.settings
    if pooled.shape[1] != settings.width:
        raise UserError(
            f"text_embedder={settings.name} and embedder={image_tower.name} are of two CLIPs",
            got=f"embeddings of width {settings.width} and {pooled.shape[1]}",
            expected="the text and the image tower of one",
        )
    embedder = text_tower.load().to(text_tower.device)
    rule, most = screening_rule(settings), max(map(len, captions), default=0)
    kept: list[list[str]] = []
    starts = range(0, len(captions), _BATCH_SIZE)
    for start in track(starts, "screening captions", console=console, transient=True):
        batch = captions[start : start + _BATCH_SIZE]
        rows = _embedded(embedder, batch, most, settings.width).cpu().numpy()  # (b, C, E)
        images = pooled[start : start + len(batch)]
        stays = rule(images, rows, logit_scale=embedder.logit_scale, share=settings.screening.share)  # (b, C)
        kept += [[text for text, stay in zip(*one, strict=False) if stay] for one in zip(batch, stays, strict=True)]
    return kept


@dataclass(frozen=True)
class Captions:
    """The captions that are learned of all N images, and the fingerprint of the screening or the user's file."""

    kept: list[list[str]]
    fingerprint: str


@dataclass(frozen=True)
class KeptCaptions(Input):
    """The captions that are learned, screened or read from a file that the user names; opened, `Captions`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the images, and the screening where the user names no file of screened captions."""
        screened = {"screened": Made(SCREEN_CAPTIONS), "fingerprint": FingerprintOf(SCREEN_CAPTIONS)}
        return {"images": Images(), **(screened if config.text_embedder.captions is None else {})}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the user's file, which must exist."""
        given = config.text_embedder.captions
        if given is None:
            return None
        if not (path := Path(given).expanduser()).is_file():
            raise UserError("text_embedder.captions does not exist", got=path, expected=CAPTIONS_LAYOUT)
        return fingerprint_file(path)

    def open(self, config: DictConfig, parts: Inputs) -> Captions:
        """Return the captions."""
        if "screened" in parts:
            path, found = parts["screened"] / CAPTIONS_FILE, parts["fingerprint"]
        else:
            path = Path(config.text_embedder.captions).expanduser()
            found = fingerprint_file(path)
        return Captions(read_captions(path, len(parts["images"].stimuli)), found)


def caption_rows(captions: Captions, ids: np.ndarray, tower: FrozenModel, cache: EmbeddingCache) -> TokenStore:
    """Return the store of the embeddings of kept captions; missing rows of ids `(n,)` are made now.

    Rows are `(C, D)` float16, clamped and then L2-normalised, and zeros where an image has fewer than C captions
    (`nn.clip.embeddings.is_caption`).

    Raises:
        UserError: if one of the images has no caption.
    """
    kept = captions.kept
    if bare := [id_ for id_ in np.unique(ids).tolist() if not kept[id_]]:
        raise UserError(
            f"{len(bare)} images of the training have no caption", got=f"stimulus {bare[0]}", expected=CAPTIONS_LAYOUT
        )
    most, settings = max(map(len, kept)), tower.settings

    def build(device: torch.device) -> Callable[[np.ndarray], Tensor]:
        embedder = tower.load().to(device)
        return lambda batch: embedded_captions(embedder, [kept[id_] for id_ in batch.tolist()], most, settings)

    by = {"text_embedder": tower.identity, "captions": captions.fingerprint}
    shape, title = (most, settings.width), f"images' captions with text_embedder={settings.name}"
    return cache.of_ids(f"captions-{settings.name}", len(kept), ids, shape, build, by=by, title=title)


def embedded_captions(
    embedder: TextEmbedder, captions: Sequence[Sequence[str]], most: int, settings: DictConfig
) -> Tensor:
    """Return embeddings of b images' captions, clamped and then L2-normalised, `(b, C, D)`; zeros where missing."""
    limit = math.inf if settings.clamp is None else settings.clamp
    return clamp_then_normalise(_embedded(embedder, captions, most, settings.width), limit=limit)  # zeros stay zeros


def _embedded(embedder: TextEmbedder, captions: Sequence[Sequence[str]], most: int, width: int) -> Tensor:
    """Return CLIP's own embeddings of b images' captions, `(b, C, D)` float32 on the CPU, zeros where missing."""
    rows = torch.zeros(len(captions), most, width)
    if texts := list(chain.from_iterable(captions)):
        there = torch.arange(most) < torch.tensor([len(one) for one in captions])[:, None]  # (b, C)
        embeddings = embedder(texts)
        if embeddings.shape[1] != width:
            raise UserError(
                "text_embedder makes other embeddings than its configuration says",
                got=f"width {embeddings.shape[1]}",
                expected=f"width {width}",
                fix=f"text_embedder.width={embeddings.shape[1]}",
            )
        rows[there] = embeddings.float().cpu()
    return rows
