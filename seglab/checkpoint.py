"""The one place that loads a file written by torch: weights only, the configuration as plain data.

A checkpoint is Lightning's, plus the key `seglab`: the resolved configuration, the Spec, the choices of the groups.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from seglab.errors import CheckpointError
from seglab.types import Spec


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of ours says: how the run was configured, what the data were, and the task's tensors."""

    path: Path
    config: dict[str, Any]
    choices: dict[str, str]
    spec: Spec
    state: dict[str, torch.Tensor]
    epoch: int


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it; CheckpointError if it is missing, broken, hostile or foreign."""
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the file, for example ckpt={path / 'checkpoints' / 'best.ckpt'}.")
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        unsafe = "unsupported global" in str(error).lower()
        why = "it holds more than tensors and plain data, which could run code" if unsafe else "it is damaged or no checkpoint"
        raise CheckpointError(f"{path} cannot be loaded: {why}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("seglab"), dict) or "state_dict" not in data:
        raise CheckpointError(f"{path} was not written by seglab; for its weights alone use model.weights={path}.")
    own = data["seglab"]
    try:
        spec = Spec.from_dict(own["spec"])
        return Checkpoint(path, own["config"], own["choices"], spec, data["state_dict"], int(data["epoch"]))
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} lacks the part {error}; it comes from another version of seglab or was edited."
        ) from error


def restore(module: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Put the checkpoint's tensors into the task; CheckpointError names the first that does not fit."""
    try:
        module.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{checkpoint.path} does not fit its own configuration: {detail}") from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file, syncs and renames: `last.ckpt` is whole at every instant."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: D102
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            raise CheckpointError(
                f"{target} could not be written ({error.strerror}); the one before it is untouched."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
