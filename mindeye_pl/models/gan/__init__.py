"""Adversarial training of an image generator, and its conditioning on brain embeddings."""
