"""Independent streams of draws that belong to one seed."""

import numpy as np


def stream_seed(seed: int, stream: int) -> int:
    """The seed of one of the streams of a seed; the first, 0, is the seed's own.

    A number added above 32 bits would not do: torch's generator of the CPU reads no more than 32 of a seed.

    Args:
        seed: of an image, for instance.
        stream: its number.
    """
    return seed if stream == 0 else int(np.random.SeedSequence([seed % 2**32, stream]).generate_state(1)[0])
