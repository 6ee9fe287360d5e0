"""Foreign weights: the published checkpoints, one adapter for each format; nothing else knows a foreign key name."""

from mindeye_pl.weights.registry import load_published as load_published
from mindeye_pl.weights.registry import save_published as save_published
