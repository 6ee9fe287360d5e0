"""StyleGAN2 with embeddings as conditions (arXiv 1912.04958 and 2111.13792; Mind Reader, spec sections 5 and 6)."""
