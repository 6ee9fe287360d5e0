"""Files of captions, and those that are refused."""

import json
from pathlib import Path

import pytest

from mindeye_pl.data.nsd.captions import read_captions
from mindeye_pl.errors import UserError


def test_empty_captions_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps([["a dog", "", "ein Hündchen"], [" ", "a cat"], []], ensure_ascii=False))
    assert read_captions(path, 3) == [["a dog", "ein Hündchen"], ["a cat"], []]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[[", "holds no captions"),
        ("{}", "holds no captions .got: a dict"),
        ('["a dog", "a cat"]', "holds no captions .got: a list of something else"),
        ("[[1], [2]]", "holds no captions"),
        ('[["a dog"]]', "captions of other images .got: 1 images; expected: a json list .* 2 of them"),
    ],
)
def test_another_file(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=says) as found:
        read_captions(path, 2)
    assert "\n" not in str(found.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no captions .got: no file .*captions\.json; expected: a json list over stim"):
        read_captions(tmp_path / "captions.json", 2)
