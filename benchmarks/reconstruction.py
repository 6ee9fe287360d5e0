"""Time of the prior and the unCLIP of the laptop, as ratios measured in one run.

    python benchmarks/reconstruction.py [--images 16] [--device cpu|cuda] [--rounds 5] [--output FILE.json]

Rows, each a median of paired rounds with the smallest and the largest:

* images one after the other, as the published code draws them, over images in one batch, at equal steps;
* 38 steps with guidance over 10, over 4, and over the 4 of the distilled unCLIP;
* the batch over products of large matrices with as many operations, in the same dtype: the gap to the floor.
"""

from collections.abc import Callable

import torch
from timing import arguments_of, at_best, floating_point_operations, paired, ratio, report
from torch import Tensor

from mindeye_pl.config import compose_config
from mindeye_pl.nn.diffusion.solvers import Sampling
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.steps.brain.reconstructor import sampling_of
from mindeye_pl.training.build import build_model
from mindeye_pl.weights.loaders import bundled

MANY = Sampling("dpm_multistep", steps=38, guidance=4.0)


def main() -> None:
    """Time the ways, and print the ratios."""
    parser = arguments_of(__doc__)
    parser.add_argument("--images", type=int, default=16)
    arguments = parser.parse_args()
    device, count = arguments.device, arguments.images
    unclip = bundled.load_unclip(bundled.SHIPPED).to(device)
    distilled = bundled.load_unclip(bundled.SHIPPED, "unclip_4steps.safetensors").to(device)
    config = compose_config(["+experiment=scratch", "unclip=laptop_4steps"])
    model = build_model(config, [100]).to(device).eval()
    generator = torch.Generator().manual_seed(0)
    shape = (config.embedder.num_tokens, config.embedder.token_dim)
    tokens = torch.randn(count, *shape, generator=generator).to(device)
    few = sampling_of(config.unclip)

    def draw(network: UnCLIPModel, sampling: Sampling, batch: int) -> Callable[[], None]:
        def work() -> None:
            network.sampling = sampling
            for rows in torch.arange(count).split(batch):
                network.draw(tokens[rows], rows.tolist())

        return work

    def sample(batch: int) -> Callable[[], None]:
        @torch.inference_mode()
        def work() -> None:
            for rows in torch.arange(count).split(batch):
                given: Tensor = tokens[rows]
                model.sample_tokens(given, rows.tolist(), samples=1)

        return work

    ten = Sampling("dpm_multistep", steps=10, guidance=4.0)
    together = draw(unclip, ten, count)
    ways = {
        "prior": sample(count),
        "prior, one by one": sample(1),
        "10 steps": together,
        "10 steps, one by one": draw(unclip, ten, 1),
        "38 steps": draw(unclip, MANY, count),
        "4 steps": draw(unclip, Sampling("dpm_multistep", steps=4, guidance=4.0), count),
        "4 steps, distilled": draw(distilled, few, count),
        "floor of 10 steps": at_best(floating_point_operations(together), device, torch.float32),
    }
    seconds = paired(ways, device, arguments.rounds)
    pairs = [
        ("prior, one by one", "prior"),
        ("10 steps, one by one", "10 steps"),
        ("38 steps", "10 steps"),
        ("38 steps", "4 steps"),
        ("38 steps", "4 steps, distilled"),
        ("10 steps", "floor of 10 steps"),
    ]
    report("reconstruction", {f"{a} / {b}": ratio(seconds[a], seconds[b]) for a, b in pairs}, arguments.output)


if __name__ == "__main__":
    main()
