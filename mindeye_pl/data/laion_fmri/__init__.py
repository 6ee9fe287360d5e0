"""LAION-fMRI: five subjects in 7T saw 6,204 images each, 1,492 of them shared; 30 sessions are in the first release.

Sources: the documentation and the package of the dataset (github.com/ViCCo-Group/LAION-fMRI), which were drafts. The
package is not on PyPI, so the files are read here. No file was at hand. Not verified: that all masks of regions have
the grid of the betas (their shapes are checked), and that the images file holds one JPEG or PNG file in each row.
"""
