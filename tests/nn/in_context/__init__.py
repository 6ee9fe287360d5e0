"""Tests of decoding from a support set."""
