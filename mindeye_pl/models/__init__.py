"""LightningModules: trainable parts, the systems composed of them, and foundation models in training."""
