"""Cost and recall of each kind of index over one million simulated embeddings, relative to exact search.

4,000 simulated scenes are embedded by the bundled laptop CLIP (the mean of its tokens, 64 values, centred over
scenes). Each of the million embeddings is a random interpolation of two scenes, with noise of a third of the
embeddings' standard deviation; the 1,000 queries are further ones with as much noise again. Every kind is built and
searched in its own process, so that peak memory is separate; mapped pages count. Times are processor time over all
threads, which depends little on other work on the machine.

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
#: The embedded engine of Milvus is written in Python, for small collections.
MILVUS_VECTORS = 100_000

EXACT, EXACT_SMALL, MILVUS = "flat", "flat, 100k", "milvus-lite HNSW, 100k"


def faiss_index(kind: str, **search: int) -> Callable[[Path, int], VectorIndex]:
    return lambda folder, dim: FaissIndex(folder, dim, build=FaissBuild(kind), search=FaissSearch(**search))


def milvus_index(folder: Path, dim: int) -> VectorIndex:
    build = MilvusBuild(str(folder / "milvus.db"), "HNSW", {"M": 32, "efConstruction": 100})
    return MilvusIndex(folder, dim, build=build, search={"ef": 128}, timeout_s=600)


#: Compared kinds, each with its gallery. Exact search comes first.
KINDS: dict[str, tuple[Callable[[Path, int], VectorIndex], str]] = {
    EXACT: (faiss_index("flat"), "all"),
    "ivf_pq": (faiss_index("ivf_pq"), "all"),
    "hnsw": (faiss_index("hnsw"), "all"),
    EXACT_SMALL: (faiss_index("flat"), "small"),
    MILVUS: (milvus_index, "small"),
}


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


def peak_gb() -> float:
    """Return the peak memory of this process in GB; `ru_maxrss` would include that of its parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def measure(kind: str, root: Path) -> dict[str, Any]:
    """Build an index and search it, in this process."""
    make, name = KINDS[kind]
    gallery, vectors = EmbeddedGallery(root / name), np.load(root / "queries.npy")
    folder = root / kind
    folder.mkdir()
    start = time.process_time()
    fill(make(folder, gallery.dim), gallery)
    build_s = time.process_time() - start
    index = make(folder, gallery.dim)
    index.search(vectors[:10], FOUND)  # opens the files
    start = time.process_time()
    _, indices = index.search(vectors, FOUND)
    search_s = time.process_time() - start
    index.close()
    np.save(root / f"{kind}.npy", indices)
    size = folder_bytes(folder)
    return {
        "build_s": build_s,
        "bytes": size,
        "peak_gb": peak_gb(),
        "per_s": len(vectors) / search_s,
        "n": len(gallery),
    }


def main(count: int) -> None:
    """Print one row per kind."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        start = time.perf_counter()
        scenes = scene_embeddings()
        np.save(root / "queries.npy", draw_queries(scenes))
        print(f"{SCENES:,} scenes embedded in {time.perf_counter() - start:.0f} s", flush=True)
        for part, size in (("all", count), ("small", min(count, MILVUS_VECTORS))):
            (root / part).mkdir()
            start = time.perf_counter()
            embed_gallery(
                InterpolatedScenes(scenes, size), root / part, np.asarray, batch_size=8192, skip_unreadable=False
            )
            seconds = time.perf_counter() - start
            print(f"{size:,} vectors of {WIDTH} written in {seconds:.0f} s, {folder_bytes(root / part) / 1e6:.0f} MB")
        heads = ["index", "vectors", "build, CPU s", "x exact", "MB", "x exact", "peak, GB", "queries/CPU s", "x exact"]
        print(f"\n| {' | '.join(heads)} | recall@{FOUND} |\n|{' --- |' * (len(heads) + 1)}", flush=True)
        found: dict[str, dict[str, Any]] = {}
        for kind, (_, part) in KINDS.items():
            command = [sys.executable, __file__, "--one", kind, str(root)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[kind] = result = json.loads(output.splitlines()[-1])
            exact = EXACT if part == "all" else EXACT_SMALL
            true, indices = np.load(root / f"{exact}.npy"), np.load(root / f"{kind}.npy")
            recall = np.mean([len(np.intersect1d(a, b)) / FOUND for a, b in zip(true, indices, strict=True)])
            ratio = {key: result[key] / found[exact][key] for key in ("build_s", "bytes", "per_s")}
            print(
                f"| {kind} | {result['n']:,} | {result['build_s']:.1f} | {ratio['build_s']:.1f} "
                f"| {result['bytes'] / 1e6:.0f} | {ratio['bytes']:.2f} | {result['peak_gb']:.2f} "
                f"| {result['per_s']:.0f} | {ratio['per_s']:.1f} | {recall:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], Path(sys.argv[3]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
