"""Json of others: damaged, nested without end, or a named pipe."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mindeye_pl.errors import UserError
from mindeye_pl.gallery.files import open_gallery
from mindeye_pl.gallery.milvus_index import MilvusBuild, MilvusIndex
from mindeye_pl.sharing.folder import read_config
from mindeye_pl.steps.evaluation.foreign.images import _captions_of_folder
from mindeye_pl.steps.evaluation.test_set_log import _read
from mindeye_pl.store.json_files import parse_json, read_json
from mindeye_pl.store.locks import Maker
from mindeye_pl.store.manifest import read_manifest
from mindeye_pl.weights.files import read_own
from mindeye_pl.weights.formats.versatile_diffusion import _config
from mindeye_pl.weights.loaders.text_embedders import _read_config

DAMAGED = {
    "cut": b"{",
    "no UTF-8": b'"\xff\xfe"',
    "empty": b"",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 10**5,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_json_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    for read in (lambda: read_json(tmp_path / "x.json"), lambda: parse_json(content)):
        with pytest.raises(ValueError, match=r"."):
            read()


def test_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"é": [1, 2.5, null]}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"é": [1, 2.5, None]}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "y.json")


def table(path: Path) -> None:
    np.save(path.with_suffix(".npy"), np.ones((3, 4), np.float32))
    open_gallery(path.with_suffix(".npy"), 8).check("tiny", 4)  # type: ignore[attr-defined]


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": ("manifest.json", lambda path: read_manifest(path.parent)),
    "shared folder": ("config.json", lambda path: read_config(path.parent)),
    "table of vectors": ("table.json", table),
    "Versatile Diffusion": ("config.json", lambda path: _config(path, "UNet")),
    "text tower": ("config.json", lambda path: _read_config(path, ("bert",), "owner/name")),
    "captions": ("captions.json", lambda path: _captions_of_folder(path.parent, ["a.png"])),
    "collection": (
        "collection.json",
        lambda path: MilvusIndex(path.parent, 4, build=MilvusBuild("http://x"), search={}),
    ),
    "test sets": ("test_evaluations.json", _read),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_of_others_are_one_line(reader: str, content: bytes, tmp_path: Path) -> None:
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as error:
        read(tmp_path / name)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("reader", ["manifest", "shared folder", "collection", "test sets"])
def test_named_pipes_are_not_waited_for(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} is not a file \(got: a named pipe"):
        read(tmp_path / name)


@pytest.mark.parametrize("content", ['{"collection": 3, "parts": 0}', '{"parts": 1}', "[]"])
def test_another_collection(content: str, tmp_path: Path) -> None:
    (tmp_path / "collection.json").write_text(content)
    with pytest.raises(UserError, match=r"collection\.json is damaged .*Fix: index\.folder=null"):
        READERS["collection"][1](tmp_path / "collection.json")


def test_a_note_of_a_maker_counts_as_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.maker.json")
    (tmp_path / "b.maker.json").write_bytes(DAMAGED["deep"])
    assert [Maker.read(tmp_path / f"{name}.maker.json") for name in "abc"] == [None] * 3


def test_sizes_in_a_header(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors", {"sizes": "[" * 100_000})
    with pytest.raises(UserError, match=r"a\.safetensors names the sizes of its model in no json"):
        read_own(tmp_path / "a.safetensors")
