"""BOLD5000, release 2.0: four subjects saw 4,916 images, 113 of them four times or so.

Sources: Chang et al. 2019 (Scientific Data 6, 49), the files' names on figshare (article 14456124) and OpenNeuro
(ds001499), and public code that reads them. No file was at hand. Not verified: that the region masks of OpenNeuro have
the grid of release 2.0's betas (their shapes are checked), and that an image's name in `CSI1_imgnames.txt` is the name
of its file.
"""
