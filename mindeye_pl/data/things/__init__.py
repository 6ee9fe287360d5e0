"""THINGS-fMRI: three subjects saw 8,640 object images once and 100 further ones twelve times, in twelve sessions.

Sources: Hebart et al. 2023 (eLife 12, e82580), the single-trial responses in table format (figshare 20492835,
`betas_csv`), and public code that reads them. No file was at hand. Not verified: that pandas stored the responses as
one block `block0_values`, voxels by trials (the block is found by its shape), that trials of a run stand in temporal
order, and that images lie in `object_images/CONCEPT/NAME` as in the THINGS database.
"""
