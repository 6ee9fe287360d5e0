"""CLIP image and text embedders, and operations on embeddings."""
