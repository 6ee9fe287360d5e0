"""Published checkpoint formats: one adapter each."""
