"""Valid and invalid captions files."""

import json
from pathlib import Path

import pytest

from mindeye_pl.data.layout.stimuli import read_captions
from mindeye_pl.errors import UserError


def test_empty_captions_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps([["a dog", "", "ein Hündchen"], [" ", "a cat"], []], ensure_ascii=False))
    assert read_captions(path, 3) == [["a dog", "ein Hündchen"], ["a cat"], []]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[", "is not a captions file"),
        ("{}", "is not a captions file .got: Input should be a valid array"),
        ('["a dog", "a cat"]', "is not a captions file .got: Input should be a valid array"),
        ("[[1], [2]]", "is not a captions file"),
        ('[["a dog"]]', "has another number of images .got: 1 images; expected: a json list .* 2 of them"),
    ],
)
def test_invalid_captions_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as found:
        read_captions(path, 2)
    assert "\n" not in str(found.value)


def test_missing_captions_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"captions file is missing .got: .*captions\.json; expected: a json list over stim"
    ):
        read_captions(tmp_path / "captions.json", 2)
