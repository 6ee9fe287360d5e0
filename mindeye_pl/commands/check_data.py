"""Inventory of a folder of brain data: the layout, its files, what they lack and the command that comes next."""

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from rich.text import Text

from mindeye_pl.console import console
from mindeye_pl.data.inventory import Inventory, SubjectFacts
from mindeye_pl.data.layout.inventory import take_inventory as of_working_layout
from mindeye_pl.data.mindeye1.inventory import take_inventory as of_mindeye1
from mindeye_pl.data.nsd.inventory import take_inventory as of_nsd_release
from mindeye_pl.data.own.inventory import take_inventory as of_own
from mindeye_pl.errors import UserError

_MINDEYE1_SHARDS = {"train": 18, "val": 1, "test": 2}  # as published


def check_data(config: DictConfig) -> None:
    """Print what lies in the folder `paths.data`, or `paths.nsd`.

    Raises:
        UserError: if there is no folder or no layout is recognised; and at the end, if a file is damaged.
    """
    folder, option = _folder(config)
    inventories = [found for take in _readers(config, folder, option) if (found := take()) is not None]
    if not inventories:
        expected = "betas_all_subj01_fp32_renorm.hdf5, webdataset_avg_split, nsddata_betas or sub-01_betas.hdf5"
        raise UserError(
            f"{folder} has no layout of brain data that is known", expected=expected, fix="docs/data.md says more"
        )
    for inventory in inventories:
        _print(folder, inventory)
    if damaged := [part for inventory in inventories for part in inventory.parts if part.state == "damaged"]:
        raise UserError(f"{damaged[0].name}: {damaged[0].note}")


def _folder(config: DictConfig) -> tuple[Path, str]:
    for name in ("data", "nsd"):
        if (path := config.paths[name]) is not None:
            if not Path(path).is_dir():
                raise UserError(f"paths.{name} is no folder", got=path)
            return Path(path), f"paths.{name}={path}"
    raise UserError("check_data needs a folder", fix="paths.data=FOLDER")


def _readers(config: DictConfig, folder: Path, option: str) -> list[Callable[[], Inventory | None]]:
    is_nsd = option.startswith("paths.nsd")
    known = config.data.get("voxel_counts") if config.data.source == "nsd" else None
    dataset = f"data={'nsd' if is_nsd else 'prepared'} {option}"
    return [
        lambda: of_working_layout(folder, Path(config.paths.cache), known, dataset),
        lambda: of_mindeye1(folder, _MINDEYE1_SHARDS),
        lambda: of_nsd_release(folder),
        lambda: of_own(folder, OmegaConf.select(config, "own.image_column") or "stim_file"),
    ]


def _print(folder: Path, inventory: Inventory) -> None:
    console.print(f"{folder}: {inventory.title}", style="bold")
    table = Table("part", "state", "size", "for", "found", box=None, pad_edge=False)
    for part in inventory.parts:
        note = f"{part.files} files: {part.note}" if part.files > 1 else part.note
        state, size = Text(part.state, _STYLES[part.state]), _readable(part.size) if part.files else ""
        table.add_row(part.name, state, size, part.what_for, Text(note))
    console.print(table)
    if inventory.subjects:
        console.print(_subjects_table(inventory.subjects))
    for remark in inventory.remarks:
        console.print(remark)
    console.print(f"agreement: {inventory.agreement}")
    for command in inventory.commands:
        console.print(Text(f"next: {command}", no_wrap=True, overflow="ignore"))


_STYLES: dict[str, str] = {"present": "green", "missing": "yellow", "damaged": "red"}


def _subjects_table(subjects: list[SubjectFacts]) -> Table:
    table = Table("subject", "voxels", "sessions", "trained", "tested", "shown", "mean", "sd", box=None, pad_edge=False)
    for facts in subjects:
        trials = ("{:,} of {:,}".format(*counts) for counts in (facts.training, facts.tested))
        moments = (
            _range(*(f"{round(bound, 2) + 0:.2f}" for bound in bounds)) for bounds in (facts.mean, facts.deviation)
        )
        shown = _range(*map(str, facts.repetitions)) + "x"
        table.add_row(facts.name, f"{facts.voxels:,}", str(facts.sessions), *trials, shown, *moments)
    table.caption = (
        "trials of images; mean and standard deviation of the betas of some trials, lowest to highest session"
    )
    return table


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0:.2f}"  # without a minus before zero


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
