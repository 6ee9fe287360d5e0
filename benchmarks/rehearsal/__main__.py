"""Rehearsal at full size: the real commands on every released file at its true size, with random weights.

make rehearse                                   # an hour or more on two idle cores, 60 GB of disk, 20 GB of memory
python benchmarks/rehearsal WORK [--only TITLE ...] [--output docs/results/rehearsal.json]

Files are written before the first stage that needs them. Finished stages are kept in `WORK/stages.json` and not run
again, so that a stopped rehearsal goes on. Exit code 1 if a stage fails.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measured import measure
from omegaconf import OmegaConf
from random_files import write_torch
from released import WRITERS, mindeye2_checkpoint
from stages import HUB, Stage, stages

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.store.atomic import write_json
from mindeye_pl.store.environment import environment

SEED = 0
_COLUMNS = [
    Column("Exit code", "exit_code", form="integer"),
    Column("Minutes", "minutes", form="number", higher_is_better=False),
    Column("Private memory, GB", "private_gb", form="number", higher_is_better=False),
    Column("With mapped files, GB", "resident_gb", form="number", higher_is_better=False),
]


def write_files(stage: Stage, weights: Path) -> None:
    """Write the released files that a stage needs and that are not there."""
    released: Any = OmegaConf.load(conf_dir() / "weights" / "released.yaml")
    for name in stage.files:
        if name == "mindeye2":
            path = weights / "last.pth"
        elif name in HUB:
            path = weights / f"{name}.pth"
        else:
            path = weights / released[name].repository / released[name].file
        if (weights / f".{name}.written").exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"  writing {name}", flush=True)
        if name == "mindeye2":
            write_torch(path, mindeye2_checkpoint(15724), SEED)
        else:
            WRITERS[name](path, SEED)
        (weights / f".{name}.written").touch()


def run(stage: Stage, weights: Path, work: Path) -> dict[str, Any]:
    """Run one stage and return its row."""
    write_files(stage, weights)
    name = "-".join(stage.title.replace(",", "").split())
    arguments = stage.arguments if stage.plain else ["-m", "mindeye_pl", *stage.arguments]
    log = work / f"{name}.log"
    found = measure([sys.executable, *arguments], log, {"OMP_WAIT_POLICY": "PASSIVE"}, stage.stop_at)
    if found.code != stage.code:
        print("\n".join(log.read_text(errors="replace").splitlines()[-5:]))
        return asdict(found)
    for path in stage.unneeded:
        Path(path).unlink()
    return asdict(found) | {"environment": environment()}


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the rows as a summary for the tables of the documentation."""
    shown = {
        title: {
            "exit_code": {"value": row["code"]},
            "minutes": {"value": row["seconds"] / 60},
            "private_gb": {"value": row["private_gb"]},
            "resident_gb": {"value": row["resident_gb"]},
        }
        for title, row in rows.items()
    }
    made_with = [row["environment"] for row in rows.values()]
    return benchmark_summary("rehearsal", "make rehearse", _COLUMNS, shown, seeds=[SEED], made_with=made_with)


def main() -> None:
    """Run the stages, print a row for each, and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of files and results, on a disk with 60 GB")
    parser.add_argument("--only", nargs="*", metavar="TITLE", help="these stages alone")
    parser.add_argument("--output", type=Path, help="a summary for the table of docs/performance.md")
    arguments = parser.parse_args()
    work, weights = arguments.work.resolve(), arguments.work.resolve() / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    kept = work / "stages.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_bytes()) if kept.exists() else {}
    failed = False
    for stage in stages(weights, work):
        if stage.title in rows or (arguments.only is not None and stage.title not in arguments.only):
            continue
        row = run(stage, weights, work)
        text = (
            f"{row['seconds'] / 60:6.1f} min, private {row['private_gb']:5.1f} GB, resident {row['resident_gb']:5.1f}"
        )
        print(f"{stage.title:44s} exit {row['code']:3d}, {text} GB", flush=True)
        if row["code"] != stage.code:
            failed = True
            break
        rows[stage.title] = row
        write_json(kept, rows)
    if not failed:
        write_summary(arguments.output, summary(rows))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
