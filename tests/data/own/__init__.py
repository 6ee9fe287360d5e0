"""Tests of data/own."""
