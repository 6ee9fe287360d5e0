"""MOSAIC: 93 subjects of eight datasets, preprocessed alike and brought onto the surfaces of fsLR 32k.

Sources: Lahner et al. 2025 (bioRxiv 2025.11.28.690060), its preprocessing repository (blahner/mosaic-preprocessing) and
the package `mosaic-dataset` 0.0.6. The package states no licence, downloads as it loads, and needs nilearn and IPython
to draw, so its files are read here. No file was at hand. Not verified: names of the attributes in the files of single
subjects (names of the responses are read where attributes are missing), and the unit of the noise ceilings, which are
not read for that reason. Betas are single trials without a session; stimuli are not released with them.
"""
