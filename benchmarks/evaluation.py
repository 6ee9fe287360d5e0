"""Time of scores against loops in the published shape, as ratios measured in one run.

    python benchmarks/evaluation.py [--images 600] [--width 4096] [--rounds 5] [--output FILE.json]

The published retrieval compares every pool of 300 images anew; the package compares all images once. The published
two-way identification goes through the images one after the other; the package counts in one matrix. Both pairs are
checked to give the same score.
"""

import numpy as np
import torch
import torch.nn.functional as F
from timing import arguments_of, paired, ratio, report

from mindeye_pl.metrics.identification import correlation_matrix, n_way_per_image
from mindeye_pl.metrics.retrieval import draw_pools, retrieval_scores

POOL, POOLS, SEED = 300, 30, 42


def main() -> None:
    """Time the ways, and print the ratios."""
    parser = arguments_of(__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--width", type=int, default=4096)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(arguments.images, arguments.width, generator=generator)
    brain = true + 8 * torch.randn(true.shape, generator=generator)

    def retrieve() -> float:
        return retrieval_scores(brain=brain, clip=true, pool_size=POOL, num_pools=POOLS, seed=SEED)[0].value

    def retrieve_pool_by_pool() -> float:
        hits = []
        for pool in draw_pools(arguments.images, POOL, POOLS, SEED):
            queries, gallery = F.normalize(brain[pool], dim=1), F.normalize(true[pool], dim=1)
            hits.append((queries @ gallery.T).argmax(1).eq(torch.arange(len(pool))).float().mean().item())
        return float(np.mean(hits))

    def identify() -> float:
        return float(n_way_per_image(correlation_matrix(brain, true), n=2).mean())

    def identify_one_by_one() -> float:
        correlations = np.corrcoef(brain.numpy(), true.numpy())[: arguments.images, arguments.images :]
        wins = []
        for image, row in enumerate(correlations):
            others = np.delete(row, image)
            wins.append(np.mean(others < row[image]))
        return float(np.mean(wins))

    for one, other in ((retrieve, retrieve_pool_by_pool), (identify, identify_one_by_one)):
        assert abs(one() - other()) < 1e-3, (one(), other())
    ways = {
        "retrieval": retrieve,
        "retrieval, pool by pool": retrieve_pool_by_pool,
        "two-way": identify,
        "two-way, image by image": identify_one_by_one,
    }
    seconds = paired(ways, arguments.device, arguments.rounds)
    pairs = [("retrieval, pool by pool", "retrieval"), ("two-way, image by image", "two-way")]
    report("evaluation", {f"{a} / {b}": ratio(seconds[a], seconds[b]) for a, b in pairs}, arguments.output)


if __name__ == "__main__":
    main()
