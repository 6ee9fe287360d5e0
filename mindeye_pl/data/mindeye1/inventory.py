"""Inventory of the folder that MindEye1's preparation of NSD lies in."""

from collections.abc import Mapping
from pathlib import Path

from mindeye_pl.data.inventory import Inventory
from mindeye_pl.data.layout.paths import subject_name
from mindeye_pl.data.mindeye1.layout import SPLITS, SUBJECTS, MindEye1Layout


def take_inventory(folder: Path, shards: Mapping[str, int]) -> Inventory | None:
    """Return the inventory of a folder with `shards` of each split, None if it has no shards of MindEye1."""
    layout = MindEye1Layout(folder, shards)
    of_subject = {subject: list(layout.shards_of(subject)) for subject in SUBJECTS}
    here = [subject for subject, paths in of_subject.items() if any(path.is_file() for _, path in paths)]
    if not here:
        return None
    found = Inventory("MindEye1's preparation of NSD", "the data agreement of naturalscenesdataset.org")
    whole = []
    for subject in here:
        present = [
            found.add(
                f"{subject_name(subject)}: {split}",
                "evaluation" if split == "test" else "training",
                paths := [path for of_split, path in of_subject[subject] if of_split == split],
                wanted=len(paths),
            )
            for split in SPLITS
        ]
        whole += [subject] * all(present)
        if missing := [path for _, path in of_subject[subject] if not path.is_file()]:
            found.commands.append(layout.fetch_command(missing[0]))
    if whole:
        subjects = f"data.subjects=[{','.join(map(str, whole))}]"
        found.commands.append(
            f"python -m mindeye_pl pipeline=convert_mindeye1 data=nsd_mindeye1 {subjects} paths.nsd={folder}"
        )
    return found
