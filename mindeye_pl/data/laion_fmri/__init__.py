"""LAION-fMRI: five subjects in 7T saw about 5,800 images each in 33 or so sessions, 1,492 of them shared.

Sources: the documentation and the package of the dataset (github.com/ViCCo-Group/LAION-fMRI), which was a draft; its
package is not on PyPI, so the files are read here. No file was at hand. Not verified: which regions are released (all
masks at the resolution of the betas are read), the number of trials of a session, and that `beta_index` counts from 0.
"""
