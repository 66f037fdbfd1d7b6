"""Metrics: one confusion count per batch, and every number derived from it by one written definition."""
