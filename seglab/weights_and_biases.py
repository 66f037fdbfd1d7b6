"""What all that reports to Weights & Biases shares, without torch: on line or not, names, and where files wait for upload."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seglab.errors import ConfigError, nearest, visible

MODES = ("auto", "online", "offline")
PROJECT = "seglab"
LONGEST = 128  # characters of a project's name, by W&B's rule
FORBIDDEN = "/\\#?%:"
STAGING = "WANDB_DATA_DIR"


def is_offline(mode: str, setting: str = "logger.mode") -> bool:
    """Whether a run stays on this machine: `auto` goes on line only where a key is configured. ConfigError for other modes."""
    if mode not in MODES:
        raise ConfigError(f"{setting} is {mode!r}; it must be auto, online or offline.{nearest(str(mode), MODES)}")
    return mode == "offline" or (mode == "auto" and not has_key())


def has_key() -> bool:
    """Whether this machine knows a W&B key: in the environment, or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc(os.environ.get("NETRC")).hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def check_project(name: Any, setting: str = "logger.project") -> str:
    """The name of a project if W&B takes it, else ConfigError."""
    text = str(name)
    if not text.strip() or not text.isprintable() or len(text) > LONGEST or set(text) & set(FORBIDDEN):
        short = visible(text if len(text) <= 40 else f"{text[:40]}...")
        raise ConfigError(
            f"{setting}='{short}' is no name of a W&B project; give 1 to {LONGEST} characters without {' '.join(FORBIDDEN)}."
        )
    return text


@contextmanager
def staged(run: Any) -> Iterator[None]:
    """While it lasts, the files of tables that are logged wait beside the run's log instead of in the user's home.

    So that an offline run is one folder: nothing to clear up elsewhere, and nothing lost where a home is not kept.
    """
    before = os.environ.get(STAGING)
    if before is None:
        os.environ[STAGING] = str(Path(run.dir).parent)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(STAGING, None)
