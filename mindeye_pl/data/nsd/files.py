"""Check and fingerprint of a dataset's files, which do not read its 70 GB."""

from collections.abc import Sequence

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_folder

FETCH_AGAIN = "download the file again (docs/data.md)"
SET_ROOT = "paths.nsd=FOLDER with MindEye2's files of NSD (docs/data.md), or data=simulated"


def check_files(layout: NSDLayout, subjects: Sequence[int], splits: Sequence[str] = ("train",)) -> None:
    """Check that the files of some subjects exist, and the first shard of each split that will be read.

    Raises a UserError if the folder, a subject or a file is missing.
    """
    if not layout.root.is_dir():
        raise UserError("the data folder is missing", got=layout.root, expected="a folder", fix=SET_ROOT)
    present = [subject for subject in nsd.SUBJECTS if layout.betas(subject).is_file()]
    if not present:
        raise UserError(f"{layout.root} contains no betas", expected=layout.betas(subjects[0]).name, fix=SET_ROOT)
    for subject in subjects:
        if subject not in present:
            got, fix = f"betas of subjects {present}", f"data.subjects={present}, or {FETCH_AGAIN}"
            raise UserError(f"{layout.betas(subject)} is missing", got=got, expected=f"subject {subject}", fix=fix)
    for path in (layout.stimuli, *(layout.shard(subject, split) for subject in subjects for split in splits)):
        if not path.is_file():
            raise UserError(f"{path} is missing", fix=FETCH_AGAIN)


def fingerprint_files(
    layout: NSDLayout, subjects: Sequence[int], splits: Sequence[str] = ("train", *nsd.TEST_SPLITS)
) -> str:
    """Return the fingerprint of the images, and of the betas and shards of the given subjects and splits.

    Raises a UserError if a file is missing.
    """
    check_files(layout, subjects, splits=())
    shards = [layout.shard(subject, split).parent.glob("*.tar") for subject in subjects for split in splits]
    files = {layout.stimuli, *map(layout.betas, subjects), *(shard for folder in shards for shard in folder)}
    return fingerprint_folder(layout.root, files)
