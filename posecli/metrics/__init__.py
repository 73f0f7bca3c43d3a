"""Scores: each reads truth and predictions, none knows how they were made.

Where the truth is labelled in 2D and predictions are 3D, those in the picture are scored: the predictions' column
`keypoints_2d` (N, K, 2), image pixels. Any algorithm may give it; `matching.as_labelled` takes it.
"""
