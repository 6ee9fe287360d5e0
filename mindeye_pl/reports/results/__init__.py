"""Summaries of finished sweeps and runs, and the tables and figures of pages that are checked against them."""
