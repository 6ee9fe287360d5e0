"""Trainable parts, one LightningModule each, and the systems that are composed of them."""
