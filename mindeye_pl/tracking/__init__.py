"""W&B: the one place that imports it, with runs, artifacts and the line that uploads them."""
