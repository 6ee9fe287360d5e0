"""Tables of a Markdown page, filled from summaries between two marks.

    <!-- table: {from: hours_subj01, columns: [image_retrieval, pixcorr]} -->
    ...
    <!-- /table -->

The mark's text is YAML, see `TableSpec`. Marks in fenced code are left alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Self

import yaml

from mindeye_pl.errors import UserError
from mindeye_pl.reports.results.numbers import PlainScore, format_difference, format_score
from mindeye_pl.reports.results.summary import DIRTY, MIXED

Summaries = Mapping[str, Mapping[str, Any]]

ROWS, DIFFERENCES = "rows", "differences"

_BLOCK = re.compile(
    r"(?P<code>^```.*?^```)|(?P<begin><!-- table: (?P<spec>.*?) -->\n)(?P<body>.*?)(?P<end><!-- /table -->)",
    re.DOTALL | re.MULTILINE,
)
_KEYS = ("from", "columns", "part", "rows", "decimals", "allow")


@dataclass(frozen=True)
class TableSpec:
    """A table of a page.

    Attributes:
        sources: names of summaries, `from` in the mark: one name or a list.
        columns: names of scores.
        part: `rows`, or `differences`.
        rows: patterns of row names (`*` stands for any text), in the order of the table, with the printed name or None
            for the row's own. A pattern `NAME#PATTERN` looks in one source only. In the mark, a list or a mapping.
        decimals: by name of a score, where the usual one, or three, are not wanted.
        allow: `changes`, `mixed`, as of `summarise`.
    """

    sources: list[str]
    columns: list[str]
    part: str = ROWS
    rows: Mapping[str, str | None] = field(default_factory=lambda: {"*": None})
    decimals: Mapping[str, int] = field(default_factory=dict)
    allow: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the specification in a mark; a `UserError` names what is wrong in it."""
        found = yaml.safe_load(text)
        if not isinstance(found, dict) or not {"from", "columns"} <= found.keys() <= {*_KEYS}:
            raise UserError("the mark of a table is not understood", got=text, expected=f"a mapping of {list(_KEYS)}")
        sources, rows = found.pop("from"), found.pop("rows", ["*"])
        rows = dict.fromkeys(rows) if isinstance(rows, list) else rows
        return cls([sources] if isinstance(sources, str) else sources, rows=rows, **found)


def fill_tables(page: str, summaries: Summaries) -> str:
    """Return the page with the content of all its tables made anew."""

    def filled(found: re.Match[str]) -> str:
        if found["code"]:
            return found["code"]
        table = markdown_table(TableSpec.parse(found["spec"]), summaries)
        return f"{found['begin']}\n{table}\n{found['end']}"

    return _BLOCK.sub(filled, page)


def without_tables(page: str) -> str:
    """Return the page without the content of its tables and without fenced code."""
    return _BLOCK.sub(lambda found: "", page)


def markdown_table(spec: TableSpec, summaries: Summaries) -> str:
    """Return the table under its line of provenance.

    Raises:
        UserError: for a summary, row or score that does not exist, or results that `spec.allow` does not permit.
    """
    used = {name: summary_of(name, summaries) for name in spec.sources}
    forms = {score: _column(score, used) for score in spec.columns}
    points = ", points" if spec.part == DIFFERENCES else ""
    heads = [f"{found['title']}{points if found['form'] == 'percent' else ''}" for found in forms.values()]
    lines = [f"| | {' | '.join(heads)} |", f"| {' | '.join(['---'] * (len(heads) + 1))} |"]
    for name, scores in _chosen(spec, used):
        cells = [_cell(scores.get(score), forms[score]["form"], spec, score) for score in spec.columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*_provenance(spec, used), "", *lines, ""])


def summary_of(name: str, summaries: Summaries) -> Mapping[str, Any]:
    """Return a summary; raise a `UserError` if there is none of that name."""
    if name not in summaries:
        raise UserError("there is no such summary", got=name, expected=f"one of {sorted(summaries)}")
    return summaries[name]


def _column(score: str, used: Summaries) -> Mapping[str, Any]:
    found = next((summary["columns"][score] for summary in used.values() if score in summary["columns"]), None)
    if found is None:
        known = sorted({name for summary in used.values() for name in summary["columns"]})
        raise UserError(f"no summary of {list(used)} has such a score", got=score, expected=f"one of {known}")
    return found


def _chosen(spec: TableSpec, used: Summaries) -> Iterator[tuple[str, Mapping[str, PlainScore]]]:
    """Yield printed name and scores of the rows in the order of the patterns, each row once."""
    done = set()
    for pattern, printed in spec.rows.items():
        source, _, of_row = pattern.rpartition("#")
        rows = [
            (name, row, scores)
            for name, summary in used.items()
            for row, scores in summary[spec.part].items()
            if source in ("", name) and fnmatchcase(row, of_row) and (name, row) not in done
        ]
        if not rows:
            known = [row for summary in used.values() for row in summary[spec.part]]
            raise UserError("a table's pattern names no row", got=pattern, expected=f"one of {known}")
        done |= {(name, row) for name, row, _ in rows}
        yield from ((printed or row, scores) for _, row, scores in rows)


def _cell(score: PlainScore | None, form: str, spec: TableSpec, name: str) -> str:
    if score is None:
        return ""
    convert = format_difference if spec.part == DIFFERENCES else format_score
    return convert(score, form, spec.decimals.get(name))


def _provenance(spec: TableSpec, used: Summaries) -> list[str]:
    """Return the line that states what made the table; raise a `UserError` for what the table does not allow."""
    revisions = sorted({revision for summary in used.values() for revision in summary["revisions"]})
    changed = any(summary["changes"] for summary in used.values())
    if len(revisions) > 1 and MIXED not in spec.allow:
        got, fix = ", ".join(revisions), f"run them again from one commit, or allow: [{MIXED}]"
        raise UserError(f"the table of {list(used)} has several revisions", got=got, expected="one", fix=fix)
    if changed and DIRTY not in spec.allow:
        fix = f"run them again from a commit, or allow: [{DIRTY}]"
        raise UserError(f"the table of {list(used)} was made by changed code", got=", ".join(revisions), fix=fix)
    seeds = sorted({seed for summary in used.values() for seed in summary["seeds"]})
    simulated = {summary["simulated"] for summary in used.values()}
    words = ["Simulated" if simulated == {True} else "Partly simulated" if True in simulated else "Measured data"]
    words.append(f"revision{'s' * (len(revisions) > 1)} {', '.join(f'`{one}`' for one in revisions)}")
    words += ["with uncommitted changes"] if changed else []
    words.append(f"mindeye_pl {', '.join(sorted({summary['version'] for summary in used.values()}))}")
    words += [f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"] if seeds else []
    return [f"*{'; '.join(words)}.*"]
