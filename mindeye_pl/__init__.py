"""mindeye_pl: from fMRI to pictures, with MindEye2, MindEye1 and Mind Reader as compositions of the same parts."""

__version__ = "0.1.0"
