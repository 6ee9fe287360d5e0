"""THINGS-fMRI: three subjects saw 8,640 object images once and 100 further ones twelve times, in twelve sessions.

Sources: Hebart et al. 2023 (eLife 12, e82580), the single-trial responses in table format (figshare 20492835,
`betas_csv`) and their usage notes, and public code that reads them. No file was at hand; a table that pandas wrote in
this form was read back equal. Not verified: that trials of a run stand in temporal order, and that images lie in
`object_images/CONCEPT/NAME` as in the THINGS database.
"""
