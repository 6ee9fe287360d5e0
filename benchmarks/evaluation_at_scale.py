"""Time and peak memory of evaluating 1,000 images at the paper's token size, on random tokens.

The tokens, 256 x 1664 values per image in half precision, are in memory-mapped files (0.85 GB each). The peak is that
of the process, including mapped pages. The predicted tokens are the true ones with noise; nothing is decoded from a
brain.

python benchmarks/evaluation_at_scale.py [IMAGES]
"""

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mindeye_pl.metrics.effective_rank import effective_rank
from mindeye_pl.metrics.identification import correlation_matrix, two_way_influence
from mindeye_pl.metrics.retrieval import retrieval_scores
from mindeye_pl.metrics.statistics.intervals import bootstrap_interval

TOKENS, WIDTH = 256, 1664
#: The cosines have a spread of 1 / 650, so that about half of the images are retrieved.
NOISE = 200.0


def random_tokens(folder: Path, num: int) -> tuple[Tensor, Tensor]:
    """Write predicted and true tokens `(num, 256, 1664)` float16 to disk, image by image."""
    names = folder / "predicted.npy", folder / "true.npy"
    for name in names:
        np.lib.format.open_memmap(name, mode="w+", dtype=np.float16, shape=(num, TOKENS, WIDTH)).flush()
    predicted, true = (np.load(name, mmap_mode="r+") for name in names)
    rng = np.random.default_rng(0)
    for i in range(num):
        values = rng.standard_normal((TOKENS, WIDTH), dtype=np.float32)
        true[i] = values
        predicted[i] = values + NOISE * rng.standard_normal((TOKENS, WIDTH), dtype=np.float32)
    return torch.from_numpy(predicted), torch.from_numpy(true)


def peak_gb() -> float:
    """Return the peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the block's wall time, processor time and the peak memory so far."""
    start, busy = time.perf_counter(), time.process_time()
    yield
    wall, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{what}: {wall:.1f} s ({busy:.1f} s of processor time), peak {peak_gb():.2f} GB", flush=True)


def main(num: int) -> None:
    """Print the scores, the cost of each part, and the peak memory."""
    print(f"{num} images x {TOKENS} x {WIDTH} tokens, float16, random; {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        with timed("write the tokens"):
            predicted, true = random_tokens(Path(folder), num)
        with timed("retrieval, two directions, 30 pools of 300 and all, top 1, 5 and 10"):
            scores = retrieval_scores(brain=predicted, clip=true, top_k=(1, 5, 10))
        with timed("two-way identification with its interval"):
            influence = two_way_influence(correlation_matrix(predicted, true))
            interval = bootstrap_interval(influence.numpy(), bounds=(0, 1))
        with timed("effective rank of both"):
            ratio = (effective_rank(predicted) / effective_rank(true)).item()
        for score in scores:
            assert score.interval is not None
            low, high = score.interval
            print(f"  {score.name:28s} {score.value:.3f} ({low:.3f} to {high:.3f}), chance {score.chance:.4f}")
        low, high = interval
        print(f"  {'two-way identification':28s} {influence.mean():.3f} ({low:.3f} to {high:.3f}), chance 1/2")
        print(f"  {'effective rank ratio':28s} {ratio:.3f}")
    print(f"peak {peak_gb():.2f} GB" + (", under 6 GB" if peak_gb() < 6 else ", OVER 6 GB"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
