"""W&B: the one place that imports it."""
