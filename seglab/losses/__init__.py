"""Losses: logits and mask in, a finite scalar out, ignored pixels without influence."""
