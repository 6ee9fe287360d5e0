"""Steps of decoding from a support set: the voxels' prior, the transformer, and the predictions of a new subject."""
