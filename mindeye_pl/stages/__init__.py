"""Trainable parts, one LightningModule each, and the composites that train them together."""
