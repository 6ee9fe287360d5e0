"""One line of a user's mistake, whatever a file is called and whatever the terminal can print."""

import io
import sys

import pytest

from mindeye_pl.console import console, use_plain_characters
from mindeye_pl.errors import UserError


def test_control_characters_are_spelt_out() -> None:
    error = UserError("a\x1b[2Jb", got="c\x07\nd", fix="rm '\x9bx'")
    assert str(error) == r"a\x1b[2Jb (got: c\x07 d). Fix: rm '\x9bx'"
    assert str(UserError("72 × ä 食")) == "72 × ä 食"


def test_the_console_prints_none(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("outputs/\x1b]0;title\x07name", markup=False)
    assert capsys.readouterr().out == "outputs/\\x1b]0;title\\x07name\n"


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", "72 000 x 64 -> e ? ...\n"),
        ("latin-1", "72 000 × 64 -> é ? ...\n"),
        ("gbk", "72 000 × 64 → é 食 …\n"),
        ("utf-8", "72\u202f000 × 64 → é 食 …\n"),
    ],
)
def test_characters_that_the_terminal_lacks(encoding: str, printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    use_plain_characters()
    print("72\u202f000 × 64 → é 食 …", flush=True)
    assert stream.buffer.getvalue().decode(encoding) == printed  # type: ignore[attr-defined]
