"""Steps that score retrieval and reconstructions."""
