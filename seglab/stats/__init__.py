"""Verdicts on groups of runs, from the counts of each test image; numpy, and two functions of scipy's."""
