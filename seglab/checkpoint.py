"""Checkpoints: what they say, and writing them so that the one on the disk is whole at every instant.

A checkpoint is Lightning's, plus the key `seglab`: the resolved configuration, the Spec, the choices of the groups.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from seglab import torchfile
from seglab.errors import CheckpointError, disk
from seglab.types import Spec

GROUPS = (  # of the configuration, conf/
    "task", "model", "loss", "data", "augment", "mix", "instances", "metrics", "optimizer", "scheduler", "trainer", "logger",
)  # fmt: skip
PARTS: dict[str, type] = {  # what a checkpoint of ours cannot do without
    "state_dict": dict, "epoch": int, "global_step": int, "seglab.choices": dict, "seglab.overrides": list, "seglab.spec": dict,
    "seglab.spec.mean": list, "seglab.versions": dict, "seglab.data": str, "seglab.tracker": str, "seglab.place.device": str,
    "seglab.place.precision": str, "seglab.place.processes": int, "seglab.config": dict, "seglab.config.seed": int,
    **{f"seglab.config.{group}": dict for group in GROUPS},
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of ours says: how the run was configured, what the data were, and the task's tensors.

    `own` is all that seglab wrote about the run (plain data), `exact` what last.ckpt adds to go on bit for bit.
    """

    path: Path
    config: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str]
    spec: Spec
    state: dict[str, torch.Tensor]
    epoch: int
    step: int
    own: dict[str, Any]
    exact: dict[str, Any] | None


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it; CheckpointError if it is missing, broken, hostile or foreign."""
    path = Path(path)
    data = torchfile.read(path)
    if not isinstance(data, dict) or "seglab" not in data:
        raise torchfile.foreign(data, path)
    found = {name: _part(data, name, kind, path) for name, kind in PARTS.items()}
    try:
        spec = Spec.from_dict(found["seglab.spec"])
        names = all(isinstance(name, str) for name in spec.classes)
        sound = names and np.shape(spec.colors) == (len(spec.classes), 3) and np.isfinite([*spec.mean, *spec.std]).all()
    except Exception as error:
        raise CheckpointError(f"{path} does not say what its data were ({error}); it was edited.") from error
    weights = all(isinstance(tensor, torch.Tensor) for tensor in found["state_dict"].values())
    if not (sound and weights and _plain(data["seglab"])):
        raise CheckpointError(f"{path} holds something that seglab does not write; it was edited.")
    return Checkpoint(
        path, found["seglab.config"], found["seglab.choices"], found["seglab.overrides"], spec, found["state_dict"],
        found["epoch"], found["global_step"], data["seglab"], data.get("exact"),
    )  # fmt: skip


def _part(data: Any, name: str, kind: type, path: Path) -> Any:
    for key in name.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    if not isinstance(data, kind):
        raise CheckpointError(f"{path} lacks the part {name}; it comes from another version of seglab or was edited.")
    return data


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    return all(map(_plain, value)) if isinstance(value, list) else value is None or isinstance(value, str | int | float)


def restore(module: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Put the checkpoint's tensors into the task; CheckpointError names the first that does not fit."""
    try:
        module.load_state_dict(checkpoint.state)
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{checkpoint.path} does not fit its own configuration: {detail}") from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file, syncs and renames, so that a kill or a full disk leaves the former file; loads safely."""

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: D102
        return torchfile.read(path)

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
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch.save answers a full disk with a RuntimeError, the OSError behind it
            if (why := disk(error)) is None:
                raise
            raise CheckpointError(f"{target} could not be written ({why}); the one before it is untouched.") from error
        finally:
            with suppress(OSError):  # of a disk that became read-only; the first error counts
                temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Put the renaming itself on the disk, where the system lets a folder be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
