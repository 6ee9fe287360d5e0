"""Readers of the Natural Scenes Dataset in MindEye2's file layout."""
