"""The training loop: trainer, callbacks, checkpoints."""
