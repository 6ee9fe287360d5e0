"""Image galleries of any size: reading them, embedding them once, and indices that find the nearest images."""
