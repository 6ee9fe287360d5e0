"""Content of `torch.save` files: tensors, numbers and strings as they were, and no line of code executed."""

import collections
import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mindeye_pl.errors import UserError
from mindeye_pl.steps.evaluation.foreign.images import PublishedTensor, read_published
from mindeye_pl.weights.convert import convert
from mindeye_pl.weights.deepspeed import read_deepspeed
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.formats import gnet
from mindeye_pl.weights.loaders.feature_networks import load_feature_network
from mindeye_pl.weights.registry import load_published_system
from mindeye_pl.weights.safe_unpickling import _Array, _DType, _Ignored, read_torch

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
    found = read_torch(path)
    for seen, wanted in zip(found["arrays"], ARRAYS, strict=True):
        assert seen.dtype == wanted.dtype.newbyteorder("=")
        np.testing.assert_array_equal(seen, wanted)
        torch.from_numpy(seen)
    assert found["by"] == {3: 0.5}
    assert torch.equal(found["t"], torch.arange(3))
    assert found["shape"] == (2, "x", None)


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
    found = read_torch(path)
    np.testing.assert_array_equal(found["a"], ARRAYS[0])
    assert found["n"] == 2.5


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}, None], dtype=object),
        np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
)
def test_arrays_of_anything_else_are_none(tmp_path: Path, array: np.ndarray) -> None:
    torch.save({"a": array, "b": np.ones(2)}, tmp_path / "a.pt")
    found = read_torch(tmp_path / "a.pt")
    assert found["a"] is None
    np.testing.assert_array_equal(found["b"], np.ones(2))


class Reduced:
    """Pickles as a call of what it is given."""

    def __init__(self, function: Callable, *arguments: object):
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


class Key(Reduced):
    """The same, as the key of a dict."""

    def __init__(self, trace: Path):
        super().__init__(Path.touch, trace)


class OrderedDictWithState(collections.OrderedDict):
    """Pickles as an OrderedDict whose state is given."""

    def __init__(self, state: object):
        super().__init__()
        self.given = state

    def __reduce__(self) -> tuple:
        return collections.OrderedDict, (), {"_metadata": self.given}


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
    assert read_torch(tmp_path / "pointers.pt") == {"a": None}
    torch.save({"a": Forged(1, (1000,), np.dtype("f8"), False, b"\x01" * 8)}, tmp_path / "short.pt")
    with pytest.raises(UserError, match=r"is damaged.*8 bytes"):
        read_torch(tmp_path / "short.pt")


SENTENCES = ["a dog", "a kite é", "食べ物", ""]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "kind",
    [np.array, list, lambda said: np.array(said, object), lambda said: np.array(said, ">U20")],
    ids=["array", "list", "objects", "big endian"],
)
@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
def test_sentences(tmp_path: Path, kind: Callable, zipped: bool, foreign: Any) -> None:
    torch.save(kind(SENTENCES), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    assert read_torch(tmp_path / "m.pt", foreign=foreign) == SENTENCES


@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
@pytest.mark.parametrize(
    "content",
    [
        Reduced(np.ndarray, (1,), np.dtype("O"), b"AAAAAAAA"),
        Forged(1, (1,), np.dtype("O"), False, b"AAAAAAAA"),
        Forged(1, (1,), np.dtype("O"), False, [3]),
        Forged(1, (5,), np.dtype("U4"), False, b"AAAAAAAA"),
        Forged(1, (-1,), np.dtype("U4"), False, b"AAAAAAAA"),
        Forged(1, (2**62,), np.dtype("U4"), False, b""),
        Forged(1, (1,), np.dtype("U1"), False, b"\xff\xff\xff\xff"),
        Forged(1, (1,), "U1", False, b"a\0\0\0"),
        Forged(1, (1,), np.dtype("f4"), False, "text"),
    ],
)
def test_more_forged_arrays(tmp_path: Path, content: object, foreign: Any) -> None:
    """Numpy would take the first two for pointers to objects."""
    torch.save(content, tmp_path / "m.pt")
    with suppress(UserError):
        assert read_torch(tmp_path / "m.pt", foreign=foreign) is None


def malicious(trace: Path) -> dict[str, Any]:
    malice = Reduced(Path.touch, trace)
    return {
        "alone": malice,
        "in a list": [malice],
        "in an array": np.array([malice], object),
        "beside tensors": {"state_dict": {"a": torch.zeros(1)}, "hook": malice},
        "as a weight": {"best_params": {"a": malice}, "model_state_dict": {"a": malice}},
        "as a key": {Key(trace): torch.zeros(1)},
        "as a state": OrderedDictWithState(malice),
        "eval": Reduced(eval, f"open({str(trace)!r}, 'w')"),
    }


MALICE = list(malicious(Path("trace")))


ENTRIES: dict[str, Callable[[Path], Any]] = {
    "read_torch": read_torch,
    "read_torch, ignoring": lambda path: read_torch(path, foreign="ignore"),
    "read_state": read_state,
    "convert": lambda path: convert(path, path.with_suffix(".safetensors")),
    "deepspeed": lambda path: read_deepspeed(path.parent),
    "gnet": gnet.FORMAT.read,
    "images": PublishedTensor,
    "captions": read_published,
    "published system": load_published_system,
    "feature network": lambda path: load_feature_network("alexnet", path),
}


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("what", MALICE)
@pytest.mark.parametrize("entry", ENTRIES)
def test_code_is_never_executed(tmp_path: Path, entry: str, what: str, old_format: bool) -> None:
    trace, path = tmp_path / "executed", tmp_path / "mp_rank_00_model_states.pt"
    torch.save(malicious(trace)[what], path, _use_new_zipfile_serialization=not old_format)
    shutil.copy(path, tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    with suppress(UserError):
        ENTRIES[entry](path)
    assert not trace.exists()


def test_the_malicious_pickle_executes_without_protection(tmp_path: Path) -> None:
    torch.save(malicious(tmp_path / "executed")["alone"], tmp_path / "m.pt")
    torch.load(tmp_path / "m.pt", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_refused_objects_are_named(tmp_path: Path) -> None:
    torch.save([Reduced(Path.touch, tmp_path / "executed")], tmp_path / "m.pt")
    with pytest.raises(UserError, match=r"m\.pt holds code, which was not executed \(got: getattr; expected: tensors"):
        read_torch(tmp_path / "m.pt")


def test_an_allowed_function_is_not_changed(tmp_path: Path) -> None:
    """A pickle that sets an attribute of the function that makes tensors."""
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    function, state = b"ctorch._utils\n_rebuild_tensor_v2\n", b"N}X\x0c\x00\x00\x00__defaults__K\x05\x85s\x86"
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        for name, content in (("data.pkl", b"\x80\x02" + function + state + b"b."), ("version", b"3\n")):
            file.writestr(f"m/{name}", content)
    with pytest.raises(UserError, match="is damaged"):
        read_torch(tmp_path / "m.pt", foreign="ignore")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("torch FloatStorage", lambda: torch.FloatStorage.dtype),
        ("torch._utils _rebuild_tensor_v2", lambda: getattr(torch._utils._rebuild_tensor_v2, "dtype", None)),
        ("torch Size", lambda: getattr(torch.Size, "dtype", None)),
        ("torch Tensor", lambda: torch.Tensor.dtype),
        ("torch.nn.parameter Parameter", lambda: torch.nn.Parameter.dtype),
        ("collections OrderedDict", lambda: getattr(collections.OrderedDict, "dtype", None)),
        ("numpy dtype", lambda: _DType.__dict__.get("dtype")),
        ("numpy ndarray", lambda: _Array.__dict__.get("dtype")),
        ("any.thing Else", lambda: _Ignored.__dict__.get("dtype")),
    ],
)
@pytest.mark.parametrize("state", [b"}X\x05\x00\x00\x00dtypeK\x05s", b"N}X\x05\x00\x00\x00dtypeK\x05s\x86"])
def test_a_pickle_sets_no_attribute_of_a_class(
    name: str, changed: Callable[[], Any], state: bytes, tmp_path: Path, foreign: Any
) -> None:
    before = changed()
    module, _, own = name.partition(" ")
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        pickled = b"\x80\x02c" + f"{module}\n{own}\n".encode() + state + b"b."
        for member, content in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
            file.writestr(f"m/{member}", content)
    with suppress(UserError):
        read_torch(tmp_path / "m.pt", foreign=foreign)
    assert changed() is before


@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
def test_other_formats_of_torch_are_refused(tmp_path: Path, foreign: Any) -> None:
    """torch.load would pass them to loaders that run what they read, or unpack files."""
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with tarfile.open(tmp_path / "old.pt", "w") as tar:
        for name in ("storages", "tensors", "pickle"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    for name in ("script.pt", "old.pt"):
        with pytest.raises(UserError, match=r"is damaged, or not a file of torch\.save"):
            read_torch(tmp_path / name, foreign=foreign)


@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
def test_damaged_files(tmp_path: Path, foreign: Any) -> None:
    path = tmp_path / "m.pt"
    with pytest.raises(UserError, match="does not exist"):
        read_torch(path, foreign=foreign)
    torch.save(torch.zeros(100_000), path)
    for content in (path.read_bytes()[:5000], b"hello", b"", pickle.dumps(Reduced(Path.touch, tmp_path / "executed"))):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"m\.pt (is damaged|holds code)"):
            read_torch(path, foreign=foreign)
    assert not (tmp_path / "executed").exists()


def test_a_tensor_is_mapped(tmp_path: Path) -> None:
    torch.save(torch.arange(6.0).view(2, 3), tmp_path / "m.pt")
    for foreign in ("refuse", "ignore"):
        assert read_torch(tmp_path / "m.pt", foreign=foreign).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "bomb",
    [
        torch.zeros(1).expand(10**12),
        torch.zeros(1, 3, 1, 1).expand(10**7, 3, 256, 256),
        torch.empty(10**12, device="meta"),
        torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (10**12,), check_invariants=True),
    ],
    ids=["expanded", "images", "meta", "sparse"],
)
def test_tensors_that_declare_more_than_they_hold(
    bomb: torch.Tensor, zipped: bool, foreign: Any, tmp_path: Path
) -> None:
    path = tmp_path / "m.pt"
    for content in (bomb, {"state_dict": {"a": bomb}}, [{"b": (bomb,)}]):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        if foreign == "ignore" and (bomb.is_meta or bomb.is_sparse):  # a foreign object like others
            assert "tensor" not in str(read_torch(path, foreign=foreign))
            continue
        with pytest.raises(UserError, match=r"m\.pt (is damaged|holds code)"):
            read_torch(path, foreign=foreign)


@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_size_beyond_the_storage(zipped: bool, foreign: Any, tmp_path: Path) -> None:
    class Forged:
        def __reduce__(self) -> tuple:
            storage = torch.zeros(4).storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, (10**12,), (1,), False, collections.OrderedDict())

    torch.save({"a": Forged()}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"m\.pt is damaged"):
        read_torch(tmp_path / "m.pt", foreign=foreign)


def test_a_repeated_buffer_is_kept(tmp_path: Path) -> None:
    torch.save({"position_ids": torch.arange(77).expand(2, -1)}, tmp_path / "m.pt")
    assert read_torch(tmp_path / "m.pt")["position_ids"].shape == (2, 77)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<html><title>Entry not found</title>", "a web page"),
        (b"cos\nsystem\n", "11 bytes, no zip and no pickle"),
        (b"", "an empty file"),
    ],
)
@pytest.mark.parametrize("foreign", ["refuse", "ignore"])
def test_text_is_not_called_code(content: bytes, words: str, foreign: Any, tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"m\.pth is damaged, or not a file of torch\.save .*{words}"):
        read_torch(tmp_path / "m.pth", foreign=foreign)
