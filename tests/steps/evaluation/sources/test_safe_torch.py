import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.steps.evaluation.sources.safe_torch import described, load_plain

SAID = ["a dog", "a kite é", "食べ物", ""]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "kind",
    [np.array, list, lambda said: np.array(said, object), lambda said: np.array(said, ">U20")],
    ids=["array", "list", "objects", "big endian"],
)
def test_sentences(tmp_path: Path, kind: Callable, zipped: bool) -> None:
    torch.save(kind(SAID), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    assert load_plain(tmp_path / "m.pt") == SAID


def test_an_array_that_an_older_numpy_pickled(tmp_path: Path) -> None:
    torch.save(np.array(SAID), tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    content, new, old = (tmp_path / "m.pt").read_bytes(), b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert new in content
    (tmp_path / "m.pt").write_bytes(content.replace(new, old))
    assert load_plain(tmp_path / "m.pt") == SAID


def test_a_tensor_is_mapped(tmp_path: Path) -> None:
    torch.save(torch.arange(6.0).view(2, 3), tmp_path / "m.pt")
    assert load_plain(tmp_path / "m.pt").tolist() == [[0, 1, 2], [3, 4, 5]]


class Malice:
    """A pickle that calls what it is given."""

    def __init__(self, function: Callable, *arguments: object):
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


def test_code_is_never_executed(tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / "m.pt"
    malice = Malice(Path.touch, trace)
    for content in (malice, [malice], np.array([malice], object), {"a": torch.zeros(1), "b": malice}):
        torch.save(content, path)
        with pytest.raises(UserError, match=r"m\.pt holds more than tensors and strings and was not executed"):
            load_plain(path)
    path.write_bytes(pickle.dumps(malice))
    with pytest.raises(UserError, match=r"m\.pt (holds more|is no whole file)"):
        load_plain(path)
    assert not trace.exists()


class Stated:
    """A pickle of numpy's array with a state of one's own."""

    def __init__(self, *state: object):
        self.state = state

    def __reduce__(self) -> tuple:
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state


POINTERS = b"AAAAAAAA"


@pytest.mark.parametrize(
    "content",
    [
        Malice(np.ndarray, (1,), np.dtype("O"), POINTERS),
        Stated(1, (1,), np.dtype("O"), False, POINTERS),
        Stated(1, (1,), np.dtype("O"), False, [3]),
        Stated(1, (5,), np.dtype("U4"), False, POINTERS),
        Stated(1, (-1,), np.dtype("U4"), False, POINTERS),
        Stated(1, (2**62,), np.dtype("U4"), False, b""),
        Stated(1, (1,), np.dtype("U1"), False, b"\xff\xff\xff\xff"),
        Stated(1, (1,), "U1", False, b"a\0\0\0"),
        np.zeros(3),
        np.array([["a"]]),
    ],
)
def test_arrays_of_anything_but_strings_are_refused(tmp_path: Path, content: object) -> None:
    """Real numpy would take the first two for pointers to objects."""
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(UserError, match=r"m\.pt (is no whole file|holds more than tensors and strings)") as caught:
        load_plain(tmp_path / "m.pt")
    assert "\n" not in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.zeros(100_000), path)
    path.write_bytes(path.read_bytes()[:5000])
    for content in (path.read_bytes(), b"hello", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"m\.pt is no whole file of torch\.save .*Fix: copy or download it again"):
            load_plain(path)


def test_what_was_found_in_a_few_words() -> None:
    assert described(torch.zeros(2, 3)) == "a tensor (2, 3)"
    assert described({"a": 1, "b": 2}) == "a dict of a, b"
    assert described(3) == "of type int"
