"""Adversarial training of the generator (Mind Reader, spec sections 5 to 7)."""
