"""Foreign weights: published checkpoints and their key names, one module per format."""

from mindeye_pl.weights.registry import load_published as load_published
from mindeye_pl.weights.registry import save_published as save_published
