"""Hands seglab.sweep to Hydra, which looks for launchers and sweepers in this namespace, and imports all of it at its start."""
