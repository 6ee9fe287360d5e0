"""Steps and runs, independent of any concrete step."""
