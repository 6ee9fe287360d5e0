"""Cost and recall of each kind of index against the number of simulated embeddings, relative to exact search.

4,000 simulated scenes are embedded by the bundled laptop CLIP (the mean of its tokens, 64 values, centred over
scenes). Each embedding of a gallery is a random interpolation of two scenes, with noise of a third of the embeddings'
standard deviation; the queries are further ones with as much noise again. A smaller gallery is the beginning of a
larger one, but for its last block. Every index is built in one process and searched in another. Memory is the peak
above what the process has after its imports; mapped pages count. Times are processor time over all threads, which
depends less on other work on the machine than time by the clock.

OMP_WAIT_POLICY=PASSIVE nice python benchmarks/gallery_index.py [--vectors 1000000 ...] [--kinds flat ...] [--output F]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.gallery.embedded import EmbeddedGallery, embed_gallery
from mindeye_pl.gallery.faiss_index import CODED, FaissBuild, FaissIndex, FaissSearch, load_faiss
from mindeye_pl.gallery.index import SearchedIndex, VectorIndex, fill
from mindeye_pl.gallery.milvus_index import MilvusBuild, MilvusIndex
from mindeye_pl.gallery.refined import RefinedIndex
from mindeye_pl.gallery.source import Portion
from mindeye_pl.metrics.statistics.intervals import interval_over_images
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.results.benchmarks import benchmark_summary
from mindeye_pl.reports.results.summary import write_summary
from mindeye_pl.store.manifest import folder_bytes

SCENES, WIDTH, QUERIES, FOUND = 4000, 64, 1000, 10

EXACT, MILVUS = "flat", "milvus-lite HNSW"
#: Names of an index whose codes alone give the order, and of one whose candidates are sorted by exact cosines.
CODES, REFINED = f"{CODED}, codes only", f"{CODED}, re-ranked"
#: Searches of each kind, whose index is built once.
KINDS = {EXACT: (EXACT,), CODED: (CODES, REFINED), "hnsw": ("hnsw",), MILVUS: (MILVUS,)}
#: Larger galleries are left out: a graph of ten million takes an hour to build, and the embedded engine of Milvus is
#: written in Python, for small collections.
MAX_VECTORS = {"hnsw": 1_000_000, MILVUS: 100_000}

_COLUMNS = (
    Column("Build, CPU s", "build_s", form="number", higher_is_better=False),
    Column("x exact", "build_x", form="number", higher_is_better=False),
    Column("Index, MB", "index_mb", form="integer", higher_is_better=False),
    Column("x exact", "index_x", form="number", higher_is_better=False),
    Column("Memory to build, MB", "build_mb", form="integer", higher_is_better=False),
    Column("Memory to search, MB", "search_mb", form="integer", higher_is_better=False),
    Column("Query, CPU ms", "query_ms", form="number", higher_is_better=False),
    Column("Speed, x exact", "speed_x", form="number"),
    Column(f"Recall@{FOUND}", "recall", form="number"),
)


def open_index(kind: str, folder: Path, dim: int) -> VectorIndex:
    """Return the index of a kind with its default settings."""
    if kind != MILVUS:
        return FaissIndex(folder, dim, build=FaissBuild(kind), search=FaissSearch())
    build = MilvusBuild(str(folder / "milvus.db"), "HNSW", {"M": 32, "efConstruction": 100})
    return MilvusIndex(folder, dim, build=build, search={"ef": 128}, timeout_s=600)


def scene_embeddings() -> np.ndarray:
    """Return `(SCENES, WIDTH)` float32, the mean of the laptop CLIP's tokens, centred over scenes."""
    import torch

    from mindeye_pl.data.simulated.rendering import render
    from mindeye_pl.data.simulated.scenes import draw_scene
    from mindeye_pl.weights.loaders.bundled import load_embedder

    embedder, rng, rows = load_embedder(None), np.random.default_rng(0), []
    for start in range(0, SCENES, 64):
        images = np.stack([render(draw_scene(rng), 64) for _ in range(min(64, SCENES - start))])
        with torch.inference_mode():
            rows.append(embedder(torch.from_numpy(images).float()).float().mean(1).numpy())
    scenes = np.concatenate(rows)
    return scenes - scenes.mean(0)


class InterpolatedScenes:
    """Gallery of deterministic interpolations between scenes, computed on request."""

    holds_images = False

    def __init__(self, scenes: np.ndarray, count: int, seed: int = 1):
        self.scenes, self.count, self.seed = scenes, count, seed
        self.noise = scenes.std() / 3

    def __len__(self) -> int:
        return self.count

    def names(self, indices: np.ndarray) -> list[str]:
        return [f"vector {index}" for index in indices.tolist()]

    def read(self, indices: np.ndarray) -> Portion:
        rng = np.random.default_rng([self.seed, int(indices[0])])
        ends = self.scenes[rng.integers(0, SCENES, (2, len(indices)))]  # (2, n, WIDTH)
        weight = rng.random((len(indices), 1), np.float32)
        noise = self.noise * rng.standard_normal(ends.shape[1:], np.float32)
        return Portion(indices, ends[0] * weight + ends[1] * (1 - weight) + noise)

    def fingerprint(self) -> str:
        return f"{self.count} {self.seed}"


def draw_queries(scenes: np.ndarray) -> np.ndarray:
    """Return `(QUERIES, WIDTH)` float32."""
    gallery, rng = InterpolatedScenes(scenes, QUERIES, seed=2), np.random.default_rng(3)
    vectors = gallery.read(np.arange(QUERIES)).content
    return vectors + gallery.noise * rng.standard_normal(vectors.shape, np.float32)


class Memory:
    """Growth of this process's memory from now on, mapped pages included."""

    def __init__(self) -> None:
        import torch  # noqa: F401  # is in every process of the project

        load_faiss()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        self._before = self._read("VmRSS")

    def peak_mb(self) -> float:
        """Return the peak above the beginning."""
        return self._read("VmHWM") - self._before

    @staticmethod
    def _read(name: str) -> float:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024 / 1e6


def build(kind: str, root: Path) -> dict[str, float]:
    """Build an index, in this process."""
    memory, gallery = Memory(), EmbeddedGallery(root / "vectors")
    (folder := root / kind).mkdir()
    start = time.process_time()
    index = open_index(kind, folder, gallery.dim)
    fill(index, gallery)
    build_s = time.process_time() - start
    index.close()
    return {"build_s": build_s, "index_mb": folder_bytes(folder) / 1e6, "build_mb": memory.peak_mb()}


def search(kind: str, name: str, root: Path) -> dict[str, float]:
    """Search an index, in this process; the places found are written beside it."""
    memory, gallery, queries = Memory(), EmbeddedGallery(root / "vectors"), np.load(root / "queries.npy")
    index: SearchedIndex = open_index(kind, root / kind, gallery.dim)
    if name == REFINED:
        index = RefinedIndex(index, gallery, FaissSearch().refine_factor)
    index.search(queries[:10], FOUND)  # opens the files
    start, rounds = time.process_time(), 0
    while not rounds or time.process_time() < start + 1:
        _, places = index.search(queries, FOUND)
        rounds += 1
    query_s = (time.process_time() - start) / rounds / len(queries)
    index.close()
    np.save(root / f"{name}.npy", places)
    return {"query_ms": 1e3 * query_s, "search_mb": memory.peak_mb()}


def in_process(*words: str) -> dict[str, float]:
    """Return what `build` or `search` measures in a process of its own."""
    output = subprocess.run([sys.executable, __file__, "--one", *words], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    return found


def measure(count: int, kinds: list[str], scenes: np.ndarray, num_queries: int) -> dict[str, dict[str, Any]]:
    """Return the scores of each search of a gallery, exact search first."""
    rows, exact = dict[str, dict[str, Any]](), dict[str, float]()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        np.save(root / "queries.npy", draw_queries(scenes)[:num_queries])
        (root / "vectors").mkdir()
        gallery = InterpolatedScenes(scenes, count)
        embed_gallery(gallery, root / "vectors", np.asarray, batch_size=8192, skip_unreadable=False)
        for kind in [kind for kind in kinds if count <= MAX_VECTORS.get(kind, count)]:
            built = in_process("build", kind, str(root))
            for title in KINDS[kind]:
                found = built | in_process("search", kind, title, str(root))
                exact = exact or found
                found["build_x"] = found["build_s"] / exact["build_s"]
                found["index_x"] = found["index_mb"] / exact["index_mb"]
                found["speed_x"] = exact["query_ms"] / found["query_ms"]
                true, places = (np.load(root / f"{one}.npy") for one in (EXACT, title))
                recalls = np.array([np.isin(a, b).mean() for a, b in zip(true, places, strict=True)])
                interval = [round(end, 6) for end in interval_over_images(recalls, hits=False)]
                row = {score: {"value": round(float(value), 6)} for score, value in found.items()}
                row["recall"] = {"value": recalls.mean(), "interval": interval, "num_images": len(recalls)}
                rows[f"{title}, {count:,}"] = row
                words = "  ".join(f"{column.score} {row[column.score]['value']:.4g}" for column in _COLUMNS)
                print(f"{title}, {count:,}: {words}", flush=True)
    return rows


def main() -> None:
    """Print a line for each search, and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, nargs="+", default=[1_000_000], help="sizes of galleries")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="beside exact search")
    parser.add_argument("--queries", type=int, default=QUERIES, help=f"at most {QUERIES}")
    parser.add_argument("--output", type=Path, help="a summary for the tables of docs/retrieval.md")
    arguments = parser.parse_args()
    kinds = list(dict.fromkeys([EXACT, *arguments.kinds]))
    command = f"python benchmarks/gallery_index.py {' '.join(sys.argv[1:])}"
    summary = benchmark_summary("gallery_index", command, _COLUMNS, {})  # the code before the run
    scenes = scene_embeddings()
    for count in arguments.vectors:
        summary["rows"] |= measure(count, kinds, scenes, arguments.queries)
        write_summary(arguments.output, summary)  # after each size, because the next may be stopped


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        task, kind, *words = sys.argv[2:]
        print(json.dumps(build(kind, Path(*words)) if task == "build" else search(kind, words[0], Path(words[1]))))
    else:
        main()
