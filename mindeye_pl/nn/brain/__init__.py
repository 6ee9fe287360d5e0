"""Networks of brain decoders: alignment, backbones, diffusion prior, low-level branch, voxel CNN."""
