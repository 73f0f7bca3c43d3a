"""Encode and decode pairs: keypoints to targets, network outputs to keypoints; batched torch."""
