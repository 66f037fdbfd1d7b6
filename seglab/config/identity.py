"""What makes two jobs the same: a hash of the resolved configuration."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Settings that say where and how a run is watched, not what it computes.
BESIDE = ("logger", "keep", "name", "pictures", "resume", "check")
BESIDE_KEYS = {"data": ("num_workers", "cache", "cache_dir", "cache_gb"), "trainer": ("log_every_n_steps",)}

# Keys that older runs lack, with the values that change nothing; NEW came after sweeps began to note their jobs.
NEW: dict[str, Any] = {"data.sampling": None, "data.reduced_jpeg": False}
INERT: dict[str, Any] = {
    "check": "quick", "data.cache": "none", "data.cache_dir": None, "data.cache_gb": None, "data.fold": 0, "data.folds": None,
    "data.limit": None, "data.split_seed": 0, **NEW,
}  # fmt: skip


def beside(key: str) -> bool:
    """Whether the setting only says where and how a run is watched."""
    group, _, name = key.partition(".")
    return group in BESIDE or name in BESIDE_KEYS.get(group, ())


def identity(config: dict[str, Any], axes: dict[str, str]) -> str:
    """A hash of a plain configuration, without what only concerns watching it, unless that is what is swept over (`axes`).

    Other axes are in the configuration: the same job is known again where it is one of more, or of other axes.
    """
    kept = {key: value for key, value in config.items() if key not in BESIDE}
    for group, keys in BESIDE_KEYS.items():
        kept[group] = {key: value for key, value in dict(kept.get(group) or {}).items() if key not in keys}
    for name, inert in NEW.items():
        group, _, key = name.partition(".")
        kept[group] = {k: value for k, value in dict(kept.get(group) or {}).items() if k != key or value != inert}
    text = json.dumps([kept, {key: value for key, value in axes.items() if beside(key)}], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
