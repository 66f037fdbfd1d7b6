"""Why a trial failed, in one sentence, from its exit code, its results.json and the last lines of its log."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from seglab.sweep.backend import LOG

LINES = 12  # of the log, kept in sweep.json
_MEMORY = re.compile(
    r"out of memory|MemoryError|OutOfMemory|[Cc]annot allocate memory|can't allocate memory|bad_alloc|_STATUS_ALLOC_FAILED"
)
_SENTENCE = re.compile(r"\w*Error: \S|Stopped: \S")
_EVENTS = Path("/sys/fs/cgroup/memory.events")


def tail(folder: Path, since: int = 0) -> list[str]:
    """The last lines of the trial's log that were written after byte `since`."""
    with suppress(OSError), (folder / LOG).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(since, size - 20_000))
        text = file.read().decode("utf-8", "replace").replace("\r", "\n")
        return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-LINES:]
    return []


def killed_for_memory() -> int:
    """How many processes of this machine's (or container's) control group the system has killed for want of memory."""
    with suppress(OSError, ValueError, StopIteration):
        lines = _EVENTS.read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))
    return 0


def out_of_memory(code: int, lines: list[str], killed: bool) -> bool:
    """Whether memory, of the device or of the machine, ran out; `killed`: the system has just killed something for it."""
    return any(_MEMORY.search(line) for line in lines) or (killed and code in (-9, 137))


def reason(code: int, lines: list[str], results: dict[str, Any], memory: bool) -> str:
    """One sentence: the run's own where it left one."""
    if code < 0 or code == 137:
        number = -code if code < 0 else 9
        name = next((s.name for s in signal.Signals if s == number), f"signal {number}")  # not all real-time ones have a name
        return f"killed by {name}" + (": the machine's memory ran out" if memory else "")
    # What it printed last is its own sentence, or the end of a traceback.
    said = next((line.strip() for line in reversed(lines) if _SENTENCE.search(line)), None)
    if results.get("status") == "failed" and results.get("error"):
        said = said or str(results["error"])
    said = re.sub(r"^(?:\w+\.)+(?=\w+: )", "", said) if said else None  # the module of the error's class
    return " ".join((said or f"exit code {code}; {lines[-1] if lines else 'it said nothing'}").split())[:400]
