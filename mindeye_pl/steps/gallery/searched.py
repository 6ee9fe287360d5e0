"""The gallery that a run searches: the data's own images, or a gallery of the user's with the seen images behind it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from mindeye_pl.engine.step import Input, Inputs
from mindeye_pl.gallery.files import VECTORS, FileGallery, VectorTable, kind_of, open_gallery
from mindeye_pl.gallery.source import Gallery, Joined, Selected
from mindeye_pl.steps.inputs.dataset import Images
from mindeye_pl.steps.inputs.splits import Split, divides_all_trials
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


class RunGallery(Input):
    """The gallery of `retrieve.gallery`; opened, a `SearchedGallery`, its images brought to the side of the data's own.

    The seen images are those of the standard test set, whichever cluster of it is tested, or those that an image-wise
    split leaves out.
    """

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the data's images, and the split that the seen images depend on."""
        split = {"split": Split()} if _has_seen(config) and divides_all_trials(config) else {}
        return {"images": Images(), **split}

    def fingerprint(self, config: DictConfig) -> str | None:
        """Return the fingerprint of the user's files and the seen images' settings, None for the data's own images."""
        given = config.retrieve.gallery
        if given is None:
            return None
        files = open_gallery(Path(given), _ANY_SIDE, config.retrieve.source).fingerprint()
        seen = {key: config.data[key] for key in ("subject", "test_split")} if _has_seen(config) else None
        return fingerprint({"files": files, "seen": seen})

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check that the user's gallery holds something; headers of tar shards are read for it."""
        if config.retrieve.gallery is not None:
            len(open_gallery(Path(config.retrieve.gallery), _ANY_SIDE, config.retrieve.source))

    def open(self, config: DictConfig, parts: Inputs) -> SearchedGallery:
        """Return the gallery; raise a `UserError` as `open_gallery` does."""
        dataset, wanted = parts["images"], config.retrieve
        own = FileGallery(dataset.layout.stimuli)
        if wanted.gallery is None:
            return SearchedGallery(own, np.arange(len(own)))
        given: Gallery = open_gallery(Path(wanted.gallery), min(dataset.stimuli.shape[-2:]), wanted.source)
        if not _has_seen(config):
            return SearchedGallery(given, None)
        seen = dataset.test_ids(config.data.subject, config.data.test_split, parts.get("split"))
        return SearchedGallery(Joined([given, Selected(own, seen)]), seen)


def given_table(config: DictConfig) -> VectorTable | None:
    """Return the table of vectors that `retrieve.gallery` names, None where it names images or nothing."""
    given = config.retrieve.gallery
    if given is None or kind_of(Path(given), config.retrieve.source) != VECTORS:
        return None
    return VectorTable(Path(given))


def _has_seen(config: DictConfig) -> bool:
    """Return whether the seen images stand behind a gallery of the user's."""
    return config.retrieve.gallery is not None and config.retrieve.with_seen
