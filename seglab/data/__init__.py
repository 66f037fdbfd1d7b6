"""Data: where images and masks come from, how they are augmented, and how they reach the task."""
