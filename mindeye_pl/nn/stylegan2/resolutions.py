"""The resolutions that generator and discriminator pass through, and how wide their maps are there."""


def sides(image_size: int) -> list[int]:
    """Sides of the maps from 4 to the image's, which is a power of two of at least 16."""
    levels = image_size.bit_length() - 1
    assert image_size == 2**levels >= 16, f"images of {image_size} pixels"
    return [2**level for level in range(2, levels + 1)]


def channels_at(side: int, *, base: int, most: int) -> int:
    """Channels of maps of that side: `base / side`, and no more than `most`."""
    return min(base // side, most)
