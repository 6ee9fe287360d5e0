"""Arrays out of `torch.save` files: what numpy would read, and nothing that is no number."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.weights.safe_unpickling import read_with_arrays
from tests.weights.test_convert import Malice

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(4, dtype=">i4"),
    np.array([True, False]),
    np.zeros((0, 3), np.float16),
    np.array(3 + 4j),
    np.arange(8, dtype=np.int64)[::2],
    np.array(7, np.uint8),
]


def test_arrays_come_out_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "arrays.pt"
    content = {"arrays": ARRAYS, "by": {np.int64(3): np.float32(0.5)}, "t": torch.arange(3), "shape": (2, "x", None)}
    torch.save(content, path)
    found = read_with_arrays(path)
    for seen, wanted in zip(found["arrays"], ARRAYS, strict=True):
        assert seen.dtype == wanted.dtype.newbyteorder("=")
        np.testing.assert_array_equal(seen, wanted)
        torch.from_numpy(seen)
    assert found["by"] == {3: 0.5}
    assert torch.equal(found["t"], torch.arange(3))
    assert found["shape"] == [2, "x", None]


def test_numpy_is_found_under_its_older_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.pt"

    class OldNames(pickle._Pickler):
        def save_global(self, obj: Any, name: str | None = None) -> None:
            if getattr(obj, "__module__", "") == "numpy._core.multiarray":
                self.write(f"cnumpy.core.multiarray\n{obj.__name__}\n".encode())
                return self.memoize(obj)
            return super().save_global(obj, name)

    module = type(pickle)("old_names")
    module.Pickler = OldNames
    module.dumps = pickle.dumps
    torch.save({"a": ARRAYS[0], "n": np.float64(2.5)}, path, pickle_module=module)
    assert b"numpy.core.multiarray" in path.read_bytes()
    found = read_with_arrays(path)
    np.testing.assert_array_equal(found["a"], ARRAYS[0])
    assert found["n"] == 2.5


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}, None], dtype=object),
        np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]),
        np.array(["words"]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
)
def test_what_is_no_number_is_left_out(tmp_path: Path, array: np.ndarray) -> None:
    torch.save({"a": array, "b": np.ones(2)}, tmp_path / "a.pt")
    found = read_with_arrays(tmp_path / "a.pt")
    assert found["a"] is None
    np.testing.assert_array_equal(found["b"], np.ones(2))


class Forged:
    """Pickles as numpy's maker of arrays with a state of one's own."""

    def __init__(self, *state: Any):
        self.state = state

    def __reduce__(self) -> tuple[Callable, tuple, tuple]:
        return *np.zeros(1).__reduce__()[:2], self.state


def test_forged_arrays_are_refused(tmp_path: Path) -> None:
    """Object pointers made of raw bytes, and fewer bytes than the shape says."""
    pointers = np.dtype(object)
    torch.save({"a": Forged(1, (1,), pointers, False, b"\x01" * 8)}, tmp_path / "pointers.pt")
    assert read_with_arrays(tmp_path / "pointers.pt") == {"a": None}
    torch.save({"a": Forged(1, (1000,), np.dtype("f8"), False, b"\x01" * 8)}, tmp_path / "short.pt")
    with pytest.raises(UserError, match=r"no whole checkpoint .*8 bytes"):
        read_with_arrays(tmp_path / "short.pt")


def test_other_classes_are_not_executed(tmp_path: Path) -> None:
    torch.save({"a": np.ones(2), "b": Malice(tmp_path / "executed")}, tmp_path / "bad.pt")
    with pytest.raises(pickle.UnpicklingError):
        read_with_arrays(tmp_path / "bad.pt")
    assert not (tmp_path / "executed").exists()
