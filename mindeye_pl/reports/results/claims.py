"""Figures in the sentences of a Markdown page, each checked against the summary that its comment names.

    pretraining retrieves 76 % (69-82)<!-- of: hours_subj01/0.25 h, pretrained/image_retrieval -->

The comment names a summary, a row or a difference, and a score, or `NAME/findings` for a figure in the sweep's own
sentences. `SCORE.chance`, `.pool_size`, `.num_images`, `.low` and `.high` name other numbers of a score. In front of it
stands the number, in percent, points, or plain, and its interval where that is quoted. Text between `<!-- traced -->`
and `<!-- /traced -->` has no other figure.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from mindeye_pl.errors import UserError
from mindeye_pl.reports.results.tables import DIFFERENCES, ROWS, Summaries, summary_of, without_tables

FINDINGS = "findings"

_NUMBER = r"[+−-]?\d[\d,]*(?:\.\d+)?"
_UNIT = r"[\s\u00a0\u202f]*(?:%|points?\b|times\b)"
_CLAIM = re.compile(
    rf"(?P<value>{_NUMBER})(?P<unit>{_UNIT})?"
    rf"(?:\s*\((?P<low>{_NUMBER})(?:-|–|\s+to\s+)(?P<high>{_NUMBER})(?:{_UNIT})?\))?"
    r"\**<!-- of: (?P<key>.*?) -->",
    re.DOTALL,
)
_COMMENT = re.compile(r"<!-- of: .*? -->", re.DOTALL)
_TRACED = re.compile(r"<!-- traced -->(.*?)<!-- /traced -->", re.DOTALL)
#: A figure that is a result: with a decimal point, or a unit.
_FIGURE = re.compile(rf"(?<![\w.`/-])(?:[+−-]?\d[\d,]*\.\d+|{_NUMBER}(?={_UNIT}))")
_CODE = re.compile(r"`[^`\n]*`|(?<=\n\n)(?: {4}.*\n)+")


def wrong_claims(page: str, summaries: Summaries) -> list[str]:
    """Return one line for each comment whose figure is not that of its summary."""
    text = _prose(page)
    claims = list(_CLAIM.finditer(text))
    ends = {claim.end() for claim in claims}
    comments = (comment for comment in _COMMENT.finditer(text) if comment.end() not in ends)
    wrong = [f"no number stands in front of {comment[0]}" for comment in comments]
    for claim in claims:
        try:
            wrong += [f"{claim[0]}: {reason}" for reason in _reasons(claim, summaries)]
        except UserError as error:
            wrong.append(f"{claim[0]}: {error}")
    return wrong


def untraced_figures(page: str) -> list[str]:
    """Return the figures between marks `traced` that no comment traces, each with the words around it."""
    found = []
    for section in _TRACED.findall(_prose(page)):
        text = _CLAIM.sub("", section)
        for figure in _FIGURE.finditer(text):
            words = " ".join(text[max(figure.start() - 30, 0) : figure.end() + 20].split())
            found.append(f"{figure[0]} in: {words}")
    return found


def _prose(page: str) -> str:
    return _CODE.sub("", without_tables(page))


def _reasons(claim: re.Match[str], summaries: Summaries) -> Iterator[str]:
    """Yield what is wrong with a figure and with each end of its interval."""
    found, form = _named(" ".join(claim["key"].split()), summaries)
    if isinstance(found, list):
        numbers = {_value(number) for text in found for number in re.findall(_NUMBER, text)}
        for part in ("value", "low", "high"):
            if claim[part] is not None and _value(claim[part]) not in numbers:
                yield f"no finding has {claim[part]}"
        return
    score = found if isinstance(found, dict) else {"value": found}
    scale = 100 if form == "percent" else 1
    expected = {"value": score["value"]}
    if claim["low"] is not None:
        if score.get("interval") is None:
            yield "there is no interval"
            return
        expected |= dict(zip(("low", "high"), score["interval"], strict=True))
    for part, number in expected.items():
        if not _is_rounded(claim[part], scale * number):
            yield f"{part} is {scale * number:.6g}"


def _named(key: str, summaries: Summaries) -> tuple[Any, str]:
    """Return the score, number or findings that a comment names, and the form of its column."""
    name, _, rest = key.partition("/")
    summary = summary_of(name, summaries)
    if rest == FINDINGS:
        return summary[FINDINGS], ""
    row, _, score = rest.rpartition("/")
    score, _, part = score.partition(".")
    scores = {**summary[ROWS], **summary[DIFFERENCES]}.get(row, {}).get(score)
    if scores is None:
        known = [f"{row}/{score}" for rows in (ROWS, DIFFERENCES) for row, of in summary[rows].items() for score in of]
        near = get_close_matches(rest, known, n=3, cutoff=0.0)  # of hundreds
        raise UserError("the summary has no such score", got=rest, expected=f"for example {', '.join(near)}")
    form = summary["columns"][score]["form"]
    if not part:
        return scores, form
    if part in ("low", "high"):
        return scores["interval"][part == "high"], form
    return scores[part], form if part == "chance" else ""


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def _is_rounded(text: str, number: float) -> bool:
    """Return whether a written number is `number` rounded to its own decimals; a half may go either way."""
    decimals = len(text.partition(".")[2])
    return abs(_value(text) - number) <= 0.5 * 10**-decimals + 1e-9
