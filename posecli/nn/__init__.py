"""Shared networks: backbones, heads, layers."""
