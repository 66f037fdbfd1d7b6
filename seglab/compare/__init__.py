"""Runs compared: groups of seeds, their scores with intervals, and verdicts on the differences. No torch."""
