"""What each kind of index costs and finds over one million simulated embeddings, as ratios to exact search.

The embeddings are simulated. 4,000 simulated scenes are embedded by the shipped laptop CLIP (the mean of its tokens, 64
values, less the scenes' mean, so that they do not crowd around one direction). Each of the million lies between two of
them, at a place by lot, with noise of a third of the embeddings' spread; the queries are 1,000 more of these with as
much noise again. Every kind is built and searched in a process of its own, so that its peak of memory is its own; pages
of files that it maps count. Seconds are those of the processor, over all threads, so that other work on the machine
changes them little.

OMP_WAIT_POLICY=PASSIVE nice -n 5 python benchmarks/gallery_index.py [VECTORS]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mindeye_pl.gallery.embedded import EmbeddedGallery, embed_gallery
from mindeye_pl.gallery.faiss_index import FaissBuild, FaissIndex, FaissSearch
from mindeye_pl.gallery.index import VectorIndex, fill
from mindeye_pl.gallery.milvus_index import MilvusBuild, MilvusIndex
from mindeye_pl.gallery.source import Portion
from mindeye_pl.store.manifest import folder_bytes

SCENES, WIDTH, QUERIES, FOUND = 4000, 64, 1000, 10
#: The embedded engine of Milvus is Python, and is meant for small collections.
MILVUS_VECTORS = 100_000

EXACT, EXACT_SMALL, MILVUS = "flat", "flat, 100k", "milvus-lite HNSW, 100k"


def faiss_index(kind: str, **search: int) -> Callable[[Path, int], VectorIndex]:
    return lambda folder, dim: FaissIndex(folder, dim, build=FaissBuild(kind), search=FaissSearch(**search))


def milvus_index(folder: Path, dim: int) -> VectorIndex:
    build = MilvusBuild(str(folder / "milvus.db"), "HNSW", {"M": 32, "efConstruction": 100})
    return MilvusIndex(folder, dim, build=build, search={"ef": 128}, timeout_s=600)


#: What is compared, each with the gallery that it is built over. Exact search comes first.
KINDS: dict[str, tuple[Callable[[Path, int], VectorIndex], str]] = {
    EXACT: (faiss_index("flat"), "all"),
    "ivf_pq": (faiss_index("ivf_pq"), "all"),
    "hnsw": (faiss_index("hnsw"), "all"),
    EXACT_SMALL: (faiss_index("flat"), "small"),
    MILVUS: (milvus_index, "small"),
}


def scene_embeddings() -> np.ndarray:
    """`(SCENES, WIDTH)` float32, the mean of the laptop CLIP's tokens less their mean over scenes."""
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


class Between:
    """A gallery of vectors between scenes, each made when it is asked for, always the same."""

    holds_images = False

    def __init__(self, scenes: np.ndarray, count: int, seed: int = 1):
        self.scenes, self.count, self.seed = scenes, count, seed
        self.noise = scenes.std() / 3

    def __len__(self) -> int:
        return self.count

    def names(self, places: np.ndarray) -> list[str]:
        return [f"vector {place}" for place in places.tolist()]

    def read(self, places: np.ndarray) -> Portion:
        rng = np.random.default_rng([self.seed, int(places[0])])
        ends = self.scenes[rng.integers(0, SCENES, (2, len(places)))]  # (2, n, WIDTH)
        share = rng.random((len(places), 1), np.float32)
        noise = self.noise * rng.standard_normal(ends.shape[1:], np.float32)
        return Portion(places, ends[0] * share + ends[1] * (1 - share) + noise)

    def fingerprint(self) -> str:
        return f"{self.count} {self.seed}"


def queries(scenes: np.ndarray) -> np.ndarray:
    """`(QUERIES, WIDTH)` float32."""
    gallery, rng = Between(scenes, QUERIES, seed=2), np.random.default_rng(3)
    vectors = gallery.read(np.arange(QUERIES)).content
    return vectors + gallery.noise * rng.standard_normal(vectors.shape, np.float32)


def peak_gb() -> float:
    """The most memory that this process held; `ru_maxrss` would begin with that of the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def measured(kind: str, root: Path) -> dict[str, Any]:
    """Builds an index and searches it, in this process."""
    make, name = KINDS[kind]
    gallery, asked = EmbeddedGallery(root / name), np.load(root / "queries.npy")
    folder = root / kind
    folder.mkdir()
    start = time.process_time()
    fill(make(folder, gallery.dim), gallery)
    build_s = time.process_time() - start
    index = make(folder, gallery.dim)
    index.search(asked[:10], FOUND)  # opens the files
    start = time.process_time()
    _, places = index.search(asked, FOUND)
    search_s = time.process_time() - start
    index.close()
    np.save(root / f"{kind}.npy", places)
    size = folder_bytes(folder)
    return {"build_s": build_s, "bytes": size, "peak_gb": peak_gb(), "per_s": len(asked) / search_s, "n": len(gallery)}


def main(count: int) -> None:
    """Prints a line for each kind."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        start = time.perf_counter()
        scenes = scene_embeddings()
        np.save(root / "queries.npy", queries(scenes))
        print(f"{SCENES:,} scenes embedded in {time.perf_counter() - start:.0f} s", flush=True)
        for part, size in (("all", count), ("small", min(count, MILVUS_VECTORS))):
            (root / part).mkdir()
            start = time.perf_counter()
            embed_gallery(Between(scenes, size), root / part, np.asarray, batch_size=8192, skip_unreadable=False)
            seconds = time.perf_counter() - start
            print(f"{size:,} vectors of {WIDTH} written in {seconds:.0f} s, {folder_bytes(root / part) / 1e6:.0f} MB")
        heads = ["index", "vectors", "build, CPU s", "x exact", "MB", "x exact", "peak, GB", "queries/CPU s", "x exact"]
        print(f"\n| {' | '.join(heads)} | recall@{FOUND} |\n|{' --- |' * (len(heads) + 1)}", flush=True)
        found: dict[str, dict[str, Any]] = {}
        for kind, (_, part) in KINDS.items():
            command = [sys.executable, __file__, "--one", kind, str(root)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[kind] = one = json.loads(answer.splitlines()[-1])
            exact = EXACT if part == "all" else EXACT_SMALL
            true, places = np.load(root / f"{exact}.npy"), np.load(root / f"{kind}.npy")
            recall = np.mean([len(np.intersect1d(a, b)) / FOUND for a, b in zip(true, places, strict=True)])
            ratio = {key: one[key] / found[exact][key] for key in ("build_s", "bytes", "per_s")}
            print(
                f"| {kind} | {one['n']:,} | {one['build_s']:.1f} | {ratio['build_s']:.1f} | {one['bytes'] / 1e6:.0f} "
                f"| {ratio['bytes']:.2f} | {one['peak_gb']:.2f} | {one['per_s']:.0f} | {ratio['per_s']:.1f} "
                f"| {recall:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(sys.argv[2], Path(sys.argv[3]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
