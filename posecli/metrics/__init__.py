"""Scores: each reads truth and predictions, none knows how they were made."""
