"""The gallery that a run searches: the data's own images, or a gallery of the user's with the seen images behind it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.engine.step import Input, Inputs
from mindeye_pl.gallery.image_sources import FileGallery
from mindeye_pl.gallery.opening import open_gallery
from mindeye_pl.gallery.source import Gallery, Joined, Selected
from mindeye_pl.steps.inputs.dataset import Dataset, Images
from mindeye_pl.steps.inputs.splits import Split, is_image_wise
from mindeye_pl.store.fingerprint import fingerprint

#: A gallery's fingerprint depends on its files alone, not on the side of its images.
_ANY_SIDE = 1


@dataclass(frozen=True)
class SearchedGallery:
    """A gallery and the images of the data in it.

    Attributes:
        gallery: all images, or vectors.
        data_ids: ascending stimulus ids of its last images; None where it has none of the data's.
    """

    gallery: Gallery
    data_ids: np.ndarray | None

    def true_places(self, stimulus_ids: np.ndarray) -> np.ndarray | None:
        """Return the seen images' indices in the gallery, `(n,)` int64 for `(n,)` ids; None if they are not in it."""
        if self.data_ids is None:
            return None
        return len(self.gallery) - len(self.data_ids) + np.searchsorted(self.data_ids, stimulus_ids)


def open_run_gallery(dataset: Dataset, settings: DictConfig, seen: np.ndarray | None) -> SearchedGallery:
    """Return the gallery of `retrieve.gallery`, its images brought to the side of the data's own.

    Args:
        dataset: whose images are the gallery where the user names none.
        settings: node `retrieve`.
        seen: ascending stimulus ids of the seen images, put behind a gallery of the user's; None for none.

    Raises:
        UserError: as `opening.open_gallery`.
    """
    own = FileGallery(dataset.layout.stimuli)
    if settings.gallery is None:
        return SearchedGallery(own, np.arange(len(own)))
    given = open_gallery(Path(settings.gallery), min(dataset.stimuli.shape[-2:]), settings.source)
    return SearchedGallery(given if seen is None else Joined([given, Selected(own, seen)]), seen)


@dataclass(frozen=True)
class GivenGallery(Input):
    """The files of a gallery of the user's; opened, their path."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the files.

        Raises:
            UserError: as `opening.open_gallery`.
        """
        return open_gallery(Path(config.retrieve.gallery), _ANY_SIDE, config.retrieve.source).fingerprint()

    def open(self, config: DictConfig, parts: Inputs) -> Path:
        """Return the path."""
        return Path(config.retrieve.gallery)


@dataclass(frozen=True)
class RunGallery(Input):
    """The gallery of `retrieve.gallery`; opened, a `SearchedGallery`.

    The seen images are those of the standard test set, whichever cluster of it is tested, or those that an image-wise
    split leaves out.
    """

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the data's images, and the user's files."""
        parts: dict[str, Input] = {"images": Images()}
        if config.retrieve.gallery is not None:
            parts["given"] = GivenGallery()
        if _has_seen(config) and is_image_wise(config):
            parts["split"] = Split()
        return parts

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the seen images' settings, None where the gallery is without them."""
        if not _has_seen(config):
            return None
        return fingerprint({key: config.data[key] for key in ("subject", "test_split")})

    def open(self, config: DictConfig, parts: Inputs) -> SearchedGallery:
        """Return the gallery."""
        settings, seen = config.data, None
        if _has_seen(config):
            seen = parts["images"].test_ids(settings.subject, settings.test_split, parts.get("split"))
        return open_run_gallery(parts["images"], config.retrieve, seen)


def _has_seen(config: DictConfig) -> bool:
    """Return whether the seen images stand behind a gallery of the user's."""
    return config.retrieve.gallery is not None and config.retrieve.with_seen
