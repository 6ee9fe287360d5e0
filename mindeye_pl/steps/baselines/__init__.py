"""Linear baselines: ridge regression from voxels to tokens and latents, and the images drawn from them."""
