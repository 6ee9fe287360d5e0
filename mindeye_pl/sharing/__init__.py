"""Folders and hub repositories from which a trained part is rebuilt."""
