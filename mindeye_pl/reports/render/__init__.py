"""Rendering of HTML pages, tables and figures."""
