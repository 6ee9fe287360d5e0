"""Random draws that follow from a seed, mostly that of each image."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's global generator inside a block and restore it afterwards; the GPUs' are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed the GPUs
        yield


def image_seed(seed: int, stimulus_id: int) -> int:
    """Return the seed of an image's draws."""
    return (seed * 1_000_003 + stimulus_id) % 2**31


def stream_seed(seed: int, stream: int) -> int:
    """Return the seed of an independent stream of draws; stream 0 has the seed itself.

    Adding a number above 32 bits would not work: torch's CPU generator reads only the lowest 32 bits of a seed.
    """
    return seed if stream == 0 else int(np.random.SeedSequence([seed % 2**32, stream]).generate_state(1)[0])


def stream_draws(seeds: Sequence[int], shape: Sequence[int], *, stream: int = 0) -> Tensor:
    """Return standard-normal draws `(B, *shape)` on the CPU from one stream of each seed."""
    generators = [torch.Generator().manual_seed(stream_seed(seed, stream)) for seed in seeds]
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])


def normal_draws(seeds: Sequence[int], like: Tensor) -> Iterator[Tensor]:
    """Yield standard-normal draws of the shape, dtype and device of `like`, without end; one seed per row of `like`."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        yield torch.stack([torch.randn(like.shape[1:], generator=generator) for generator in generators]).to(like)
