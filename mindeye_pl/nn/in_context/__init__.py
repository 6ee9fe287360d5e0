"""Decoding from a support set of images and responses, without training on the subject."""
