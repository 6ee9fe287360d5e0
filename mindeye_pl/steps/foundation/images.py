"""The images that foundation models learn from: simulated scenes, or images of the user's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.data.image_sources import ImageFile, ImageFolder, Images
from mindeye_pl.data.layout.hdf5 import open_hdf5
from mindeye_pl.data.simulated.world import paint_scenes
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, MISSING, Input, Inputs, Made, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.embeddings import EmbeddingCache
from mindeye_pl.steps.inputs.frozen_models import FrozenModel
from mindeye_pl.steps.inputs.image_embeddings import token_embedder
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.embeddings import TokenStore
from mindeye_pl.store.fingerprint import fingerprint
from mindeye_pl.store.own_files import read_json

IMAGES, CAPTIONS = "images.hdf5", "captions.json"


class Scenes(Step):
    """Paints simulated scenes and describes them."""

    name = "scenes"
    title = "Simulated scenes"
    keys = ("foundation.images.count", "foundation.images.seed", "foundation.images.image_size")
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return their number and the seed."""
        return f"{config.foundation.images.count}-seed{config.foundation.images.seed}"

    def is_simulated(self, config: DictConfig) -> bool:
        """Return True."""
        return True

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write images and captions."""
        wanted, captions = settings.foundation.images, list[list[str]]()
        shape = (wanted.count, 3, wanted.image_size, wanted.image_size)
        with open_hdf5(work.folder / IMAGES, "w") as file:
            stored = file.create_dataset("images", shape, np.float16)
            for start, images, words in paint_scenes(wanted.seed, wanted.count, wanted.image_size):
                stored[start : start + len(images)] = images
                captions += words
        write_json(work.folder / CAPTIONS, captions)


SCENES = Scenes()


def trains_on_scenes(config: DictConfig) -> bool:
    """Return whether the images are simulated scenes."""
    return config.foundation.images.source == "simulated"


@dataclass(frozen=True)
class TrainingImages(Input):
    """The images to train on, those held out last; opened, `Images`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the painted scenes; nothing where the images are the user's."""
        return {"scenes": Made(SCENES)} if trains_on_scenes(config) else {}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the user's files and the images' side; `MISSING` without any."""
        if trains_on_scenes(config):
            return None
        return MISSING if self.missing(config) else fingerprint(images_identity(_user_images(config)))

    def open(self, config: DictConfig, parts: Inputs) -> Images:
        """Return the images."""
        if "scenes" in parts:
            return ImageFile(parts["scenes"] / IMAGES, config.foundation.images.image_size)
        return _user_images(config)

    def missing(self, config: DictConfig) -> list[str]:
        """Return the images, if the configuration names none."""
        named = config.foundation.images.source is not None
        return [] if named else ["images to train on (foundation.images.source=FOLDER, or an hdf5 file)"]


def _user_images(config: DictConfig) -> Images:
    """Return the images that the user names, more than those held out."""
    settings = config.foundation.images
    source = Path(settings.source)
    kind = ImageFile if source.suffix in (".hdf5", ".h5") else ImageFolder
    images: Images = kind(source, settings.image_size)
    if len(images) <= settings.num_validation:
        expected = f"more than the {settings.num_validation} that are held out"
        fix = f"foundation.images.num_validation={len(images) // 10}, or more images"
        raise UserError(f"{source} holds too few images", got=len(images), expected=expected, fix=fix)
    return images


def scene_captions(folder: Path) -> list[list[str]]:
    """Return the captions of every scene in a finished folder of `SCENES`, the full one first."""
    captions: list[list[str]] = read_json(folder / CAPTIONS, list[list[str]])
    return captions


def held_out_ids(images: Images, num_validation: int) -> np.ndarray:
    """Return the ids `(n,)` of the images that no training sees: the last ones."""
    return np.arange(len(images))[-num_validation:]


def images_identity(images: Images) -> dict[str, Any]:
    """Return plain data that identifies the images."""
    return {"images": images.fingerprint(), "image_size": images.image_size}


class Prepared:
    """A table of images; `prepare` makes rows of `(n, 3, P, P)` float32 images in [0, 1]."""

    def __init__(self, images: Images, prepare: Callable[[Tensor], Tensor] | None = None):
        self._images, self._prepare = images, prepare

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        read = self._images.read(ids)
        return read if self._prepare is None else self._prepare(torch.from_numpy(read).float()).numpy()


def embed_all(
    name: str,
    images: Images,
    cache: EmbeddingCache,
    shape: tuple[int, int],
    build: Callable[[torch.device], Callable[[Tensor], Tensor]],
    *,
    by: Mapping[str, Any],
    title: str,
) -> TokenStore:
    """Return the store of rows of all images; see `EmbeddingCache.of_images` for the arguments."""
    by = {**by, **images_identity(images)}
    return cache.of_images(name, images, np.arange(len(images)), shape, build, by=by, title=title)


def embed_tokens(embedder: FrozenModel, images: Images, cache: EmbeddingCache) -> TokenStore:
    """Return the store of a configured embedder's tokens of all images, rows `(S, D)`."""
    settings, by = embedder.settings, {"embedder": embedder.identity}
    shape, title = (settings.num_tokens, settings.token_dim), f"with embedder={embedder.name}"
    return embed_all(embedder.name, images, cache, shape, partial(token_embedder, embedder), by=by, title=title)
