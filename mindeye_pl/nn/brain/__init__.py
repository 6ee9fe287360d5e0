"""Networks that read voxels: alignment, backbones, diffusion prior, low-level branch."""
