"""Trainable parts of a system: alignment, backbone, prior, low-level branch, mapper."""
