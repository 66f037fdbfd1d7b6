"""What makes two jobs the same: a hash of the resolved configuration."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Settings that say where and how a run is watched, not what it computes.
BESIDE = ("logger", "keep", "name", "pictures", "resume")
BESIDE_KEYS = {"data": ("num_workers",), "trainer": ("log_every_n_steps",)}


def identity(config: dict[str, Any], axes: dict[str, str]) -> str:
    """A hash of a plain configuration, without what only concerns watching it; `axes` always count."""
    kept = {key: value for key, value in config.items() if key not in BESIDE}
    for group, keys in BESIDE_KEYS.items():
        kept[group] = {key: value for key, value in dict(kept.get(group) or {}).items() if key not in keys}
    text = json.dumps([kept, axes], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
