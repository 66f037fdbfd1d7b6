"""Offline runs as W&B's own tool reads them: `wandb leet inspect`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

WANDB = shutil.which("wandb", path=str(Path(sys.executable).parent)) or shutil.which("wandb")


def _inspect(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(WANDB), "leet", "inspect", *arguments], capture_output=True, text=True)


def _missing() -> str:
    if WANDB is None:
        return "needs the command wandb"
    return "" if _inspect("--help").returncode == 0 else "this wandb has no `wandb leet inspect`"


NO_LEET = _missing()  # why such logs cannot be read here


def records(folder: Path) -> list[dict[str, Any]]:
    """All records of a run, in the order in which they were written."""
    done = _inspect("--json", str(folder))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    """A run's state, configuration and summary."""
    done = _inspect("--summary", "--json", str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def table(folder: Path, entry: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows) of a table that a summary names."""
    found = json.loads((folder / "files" / entry["path"]).read_text())
    return found["columns"], found["data"]
