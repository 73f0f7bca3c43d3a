"""Formats the house reads and writes, and the embedded synthetic dataset."""
