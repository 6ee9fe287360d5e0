"""Killed in the middle and started again, a gallery ends in the same index, byte for byte."""

import importlib.util
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.gallery.milvus_index import MilvusBuild, MilvusIndex
from mindeye_pl.store.atomic import remove_temporaries
from tests.gallery.made import clustered, exact

COUNT, WIDTH = 500, 16

#: Embeds and indexes, and kills itself in the middle of writing the file whose number is the last argument.
BUILD = """
import os, signal, sys
from pathlib import Path
import numpy as np
from mindeye_pl.gallery import embedded, faiss_index
from mindeye_pl.gallery.embedded import EmbeddedGallery, embed_gallery
from mindeye_pl.gallery.faiss_index import FaissBuild, FaissIndex, FaissSearch
from mindeye_pl.gallery.index import fill
from mindeye_pl.gallery.milvus_index import MilvusBuild, MilvusIndex
from mindeye_pl.gallery.files import VectorTable

root, kind, fatal = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
embedded.PLACES = faiss_index.PLACES = 100
written = 0
rename = os.replace
def rename_or_die(source, target):
    global written
    if written == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    written += 1
    return rename(source, target)
os.replace = rename_or_die
(root / "e").mkdir(exist_ok=True); (root / kind).mkdir(exist_ok=True)
embed_gallery(VectorTable(root / "table.npy"), root / "e", np.asarray, batch_size=32, skip_unreadable=False)
gallery = EmbeddedGallery(root / "e")
if kind == "milvus":
    index = MilvusIndex(root / kind, 16, build=MilvusBuild(str(root / "milvus.db"), "FLAT"), search={})
    insert = index._client.insert
    parts = 0
    def insert_or_die(*args, **kwargs):
        global parts
        insert(*args, **kwargs)
        parts += 1
        if parts == fatal - 10:
            os.kill(os.getpid(), signal.SIGKILL)
    index._client.insert = insert_or_die
else:
    build = FaissBuild(kind=kind, shard_size=200, lists=4, code_bytes=4)
    index = FaissIndex(root / kind, 16, build=build, search=FaissSearch())
fill(index, gallery)
index.close()
"""


def build(root: Path, kind: str, fatal: int) -> int:
    arguments = [str(root), kind, str(fatal)]
    if kind == "milvus":  # whose client does not survive a fork
        command = [sys.executable, "-c", BUILD, *arguments]
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode
    process = get_context("fork").Process(target=build_here, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def build_here(*arguments: str) -> None:
    sys.argv[1:] = arguments
    exec(BUILD, {})


def files(root: Path, kind: str) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for name in ("e", kind) for p in sorted((root / name).iterdir())}


@pytest.mark.parametrize("kind", ["hnsw", pytest.param("ivf_pq", marks=pytest.mark.slow)])
def test_faiss_killed_while_embedding_and_while_indexing(kind: str, tmp_path: Path) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    for root in (alone, killed):
        root.mkdir()
        np.save(root / "table.npy", clustered(COUNT))
    assert build(alone, kind, fatal=1000) == 0
    assert build(killed, kind, fatal=2) == -signal.SIGKILL
    assert len(list((killed / "e").glob("vectors-*"))) == 2
    assert build(killed, kind, fatal=7) == -signal.SIGKILL  # 3 files of vectors, summary, training, first shard's two
    assert [p.name for p in (killed / kind).glob("shard-*.faiss")] == ["shard-00000.faiss"]
    assert build(killed, kind, fatal=1000) == 0
    remove_temporaries(killed)  # as the store does when the artifact is finished
    wanted, found = files(alone, kind), files(killed, kind)
    assert found == wanted


@pytest.mark.skipif(importlib.util.find_spec("pymilvus") is None, reason="needs pip install -e .[milvus]")
def test_milvus_killed_between_an_insert_and_its_record(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", clustered(COUNT))
    assert build(tmp_path, "milvus", fatal=12) == -signal.SIGKILL
    assert build(tmp_path, "milvus", fatal=1000) == 0
    settings = MilvusBuild(str(tmp_path / "milvus.db"), "FLAT")
    index = MilvusIndex(tmp_path / "milvus", WIDTH, build=settings, search={})
    assert len(index) == COUNT
    queries = clustered(20, seed=3)
    np.testing.assert_array_equal(index.search(queries, 10)[1], exact(clustered(COUNT), queries, 10)[1])
    index.close()
