"""Fingerprint of a dataset that does not read its 70 GB."""

from collections.abc import Sequence

from mindeye_pl.data.nsd.files import check_files
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.nsd.trials import TEST_SPLITS
from mindeye_pl.store.fingerprint import fingerprint_folder


def fingerprint_files(
    layout: NSDLayout, subjects: Sequence[int], splits: Sequence[str] = ("train", *TEST_SPLITS)
) -> str:
    """Return the fingerprint of the images, and of the betas and shards of the given subjects and splits.

    Raises a UserError if a file is missing.
    """
    check_files(layout, subjects, splits=())
    shards = [layout.shard(subject, split).parent.glob("*.tar") for subject in subjects for split in splits]
    files = {layout.stimuli, *map(layout.betas, subjects), *(shard for folder in shards for shard in folder)}
    return fingerprint_folder(layout.root, files)
