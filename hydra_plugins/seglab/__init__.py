"""Hands seglab.sweep to Hydra, which looks for launchers and sweepers in this namespace. Hydra imports all of it at its start."""
