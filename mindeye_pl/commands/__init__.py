"""Commands that only read artifacts."""
