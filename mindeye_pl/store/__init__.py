"""Results on disk: atomic writes, fingerprints, artifacts, locks and embeddings."""
