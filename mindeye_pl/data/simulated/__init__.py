"""The simulated NSD: scenes, brains and their responses."""
