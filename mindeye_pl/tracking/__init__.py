"""Tracking with W&B: runs, artifacts and the upload command. Only this package imports wandb."""
