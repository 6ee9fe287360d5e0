"""Resolutions of generator and discriminator, and the number of channels at each."""


def sides(image_size: int) -> list[int]:
    """Return the sides of the maps, from 4 to the image's, which is a power of two of at least 16."""
    levels = image_size.bit_length() - 1
    assert image_size == 2**levels >= 16, f"images of {image_size} pixels"
    return [2**level for level in range(2, levels + 1)]


def channels_at(side: int, *, base: int, most: int) -> int:
    """Return the number of channels of maps of a side: `base / side`, at most `most`."""
    return min(base // side, most)
