"""The steps of an experiment, grouped in pipeline order."""
