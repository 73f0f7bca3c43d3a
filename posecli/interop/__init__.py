"""What comes from and goes to other tools: checkpoints, detections, skeletons."""
