"""Figures in sentences, each with a comment that names its summary."""

import pytest

from mindeye_pl.reports.results.claims import untraced_figures, wrong_claims
from tests.reports.results.written import summary

SUMMARIES = {"hours": summary()}
ROW = "hours/0.25 h, pretrained"
PAIR = "hours/0.25 h: pretrained − scratch"


@pytest.mark.parametrize(
    "claim",
    [
        f"76 %<!-- of: {ROW}/image_retrieval -->",
        f"75.6 % (69-82)<!-- of: {ROW}/image_retrieval -->",
        f"**75.55 %**<!-- of: {ROW}/image_retrieval -->",
        f"0.697 (0.660-0.729)<!-- of: {ROW}/pixcorr -->",
        f"0.7<!-- of: {ROW}/pixcorr -->",
        f"+52 points (44 to 59)<!-- of: {PAIR}/image_retrieval -->",
        f"0.138 (0.109 to 0.175)<!-- of: {PAIR}/pixcorr -->",
        f"chance is 1 %<!-- of: {ROW}/image_retrieval.chance --> among 100<!-- of: {ROW}/image_retrieval.pool_size -->",
        f"at least 69 %<!-- of: {ROW}/image_retrieval.low -->",
        "worth 3.3 times (2.5 to 4.9)<!-- of: hours/findings --> the data",
        "a comment over\ntwo lines 76 %<!-- of:\n" + f"{ROW}/image_retrieval -->",
    ],
)
def test_figures_of_the_summary(claim: str) -> None:
    assert wrong_claims(f"In this world, {claim} and more.", SUMMARIES) == []


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        (f"77 %<!-- of: {ROW}/image_retrieval -->", "value is 75.55"),
        (f"75.4 %<!-- of: {ROW}/image_retrieval -->", "value is 75.55"),
        (f"76 % (68-82)<!-- of: {ROW}/image_retrieval -->", "low is 69"),
        (f"0.697 (0.660-0.739)<!-- of: {ROW}/pixcorr -->", "high is 0.729"),
        (f"-52 points<!-- of: {PAIR}/image_retrieval -->", "value is 51.5"),
        ("40 % (30-50)<!-- of: hours/0.25 h, scratch: ridge/image_retrieval -->", "no interval"),
        ("worth 3.4 times<!-- of: hours/findings -->", "no finding has 3.4"),
        (f"76 %<!-- of: {ROW}/ssim -->", "no such score"),
        ("76 %<!-- of: 2 h/1 h/ssim -->", "no such summary"),
        (f"most<!-- of: {ROW}/image_retrieval -->", "no number stands in front"),
    ],
)
def test_other_figures_are_found(claim: str, says: str) -> None:
    (line,) = wrong_claims(f"In this world, {claim} and more.", SUMMARIES)
    assert says in line


def test_code_is_no_claim() -> None:
    code = f"99 %<!-- of: {ROW}/image_retrieval -->"
    assert wrong_claims(f"`{code}`\n\n    {code}\n\n```\n{code}\n```\n", SUMMARIES) == []
    assert len(wrong_claims(f"* a list\n    {code}\n", SUMMARIES)) == 1, "an indented line of a list is no code"


def test_untraced_figures_between_the_marks() -> None:
    traced = f"It reaches 76 % (69-82)<!-- of: {ROW}/image_retrieval --> with 3 subjects in `0.25` h."
    assert untraced_figures(f"<!-- traced -->\n{traced}\n<!-- /traced --> and 12 % outside.") == []
    (figure,) = untraced_figures(f"<!-- traced -->{traced} Then 81 % follow.<!-- /traced -->")
    assert figure.startswith("81 in: ")
    assert untraced_figures("<!-- traced -->PixCorr is 0.71.<!-- /traced -->") == ["0.71 in: PixCorr is 0.71."]
