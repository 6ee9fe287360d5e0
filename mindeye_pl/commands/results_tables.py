"""Tables and figures of the pages from committed JSON summaries of sweeps and runs.

    python -m mindeye_pl.commands.results_tables collect hours_subj01 outputs/sweeps/sweeps/hours_subj01/DATE
    python -m mindeye_pl.commands.results_tables write
    python -m mindeye_pl.commands.results_tables check

`collect` writes `docs/results/hours_subj01.json`, `write` fills the tables of the pages, `check` fails if a table or a
traced figure is not that of its summary. docs/results_tables.md has the marks of a page.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindeye_pl.config import register_resolvers
from mindeye_pl.errors import UserError
from mindeye_pl.reports.results.claims import untraced_figures, wrong_claims
from mindeye_pl.reports.results.summary import DIRTY, MIXED, summarise, write_summary
from mindeye_pl.reports.results.tables import fill_tables
from mindeye_pl.store.atomic import write_text

#: Folder of the summaries, below the root of the checkout.
RESULTS = Path("docs") / "results"


def pages(root: Path) -> list[Path]:
    """Return the pages whose tables and figures are traced."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def read_summaries(root: Path) -> dict[str, dict[str, Any]]:
    """Return the committed summaries by name."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted((root / RESULTS).glob("*.json"))}


def collect(root: Path, name: str, folder: Path, allow: Sequence[str]) -> Path:
    """Write the summary of a finished sweep or run; return its path."""
    path = root / RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_summary(path, summarise(folder, allow=allow))
    return path


def write(root: Path) -> list[Path]:
    """Fill the tables of all pages; return those that have changed."""
    summaries, changed = read_summaries(root), []
    for page in pages(root):
        before = page.read_text(encoding="utf-8")
        if (after := fill_tables(before, summaries)) != before:
            write_text(page, after)
            changed.append(page)
    return changed


def problems(page: str, summaries: dict[str, dict[str, Any]]) -> list[str]:
    """Return one line for each table and figure of a page that is not that of its summary."""
    try:
        stale = ["a table differs from its summary"] if fill_tables(page, summaries) != page else []
    except UserError as error:
        stale = [str(error)]
    untraced = [f"no summary is named for {figure}" for figure in untraced_figures(page)]
    return [*stale, *wrong_claims(page, summaries), *untraced]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if `check` finds something, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="checkout whose pages are written")
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("name")
    collecting.add_argument("folder", type=Path, help="of a sweep or run")
    collecting.add_argument("--allow", nargs="+", choices=(DIRTY, MIXED), default=[])
    commands.add_parser("write")
    commands.add_parser("check")
    given = parser.parse_args(arguments)
    try:
        if given.command == "collect":
            register_resolvers()
            print(collect(given.root, given.name, given.folder, given.allow))
        elif given.command == "write":
            print(*write(given.root), sep="\n")
        else:
            summaries = read_summaries(given.root)
            found = [
                f"{page}: {line}"
                for page in pages(given.root)
                for line in problems(page.read_text(encoding="utf-8"), summaries)
            ]
            print(*found, sep="\n")
            return int(bool(found))
    except UserError as error:
        print(f"results_tables: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
