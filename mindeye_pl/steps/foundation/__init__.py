"""Steps that train foundation models."""
