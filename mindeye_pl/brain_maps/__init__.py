"""Values of voxels drawn back on the brain: slices of the volume and surfaces, with outlines of regions."""
