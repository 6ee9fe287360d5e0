"""Time of embedding images with the laptop's CLIP, as ratios measured in one run.

    python benchmarks/embedding.py [--images 64] [--device cpu|cuda] [--rounds 5] [--output FILE.json]

The rows are images one after the other over images in one batch, embedding the batch over reading its cached tokens in
half precision, and the batch over products of large matrices with as many operations: the gap to the floor.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import arguments_of, at_best, floating_point_operations, paired, ratio, report

from mindeye_pl.weights.loaders import bundled


def main() -> None:
    """Time the ways, and print the ratios."""
    parser = arguments_of(__doc__)
    parser.add_argument("--images", type=int, default=64)
    arguments = parser.parse_args()
    device, count = arguments.device, arguments.images
    embedder = bundled.load_embedder(bundled.SHIPPED).to(device)
    images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)

    def embed(batch: int) -> Callable[[], None]:
        @torch.inference_mode()
        def work() -> None:
            for part in images.split(batch):
                embedder(part)

        return work

    together = embed(count)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "tokens.npy"
        np.save(path, embedder(images).half().cpu().numpy())

        def read() -> None:
            torch.from_numpy(np.load(path)).to(device).float()

        ways = {
            "batch": together,
            "one by one": embed(1),
            "cached tokens": read,
            "floor": at_best(floating_point_operations(together), device, torch.float32),
        }
        seconds = paired(ways, device, arguments.rounds)
    pairs = [("one by one", "batch"), ("batch", "cached tokens"), ("batch", "floor")]
    report("embedding", {f"{a} / {b}": ratio(seconds[a], seconds[b]) for a, b in pairs}, arguments.output)


if __name__ == "__main__":
    main()
