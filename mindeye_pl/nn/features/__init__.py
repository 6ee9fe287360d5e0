"""Feature networks of image metrics and of the low-level branch."""
