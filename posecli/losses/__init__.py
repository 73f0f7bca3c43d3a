"""Losses as functions and small modules of tensors."""
