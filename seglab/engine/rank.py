"""One process of a distributed run; launch.py starts it: `python rank.py FOLDER`.

It reads the job from FOLDER/order.json and leaves its outcome there. Nothing heavy is imported before it listens to
signals and to the end of its supervisor.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


def main(folder: Path) -> int:
    """Run the job; 0 if it ended well."""
    for number in SIGNALS:
        signal.signal(number, _leave)
    order = json.loads((folder / "order.json").read_text())
    sys.path[:] = order["path"]
    from seglab.processes import end_with_supervisor

    end_with_supervisor(lambda: _leave_nothing(folder))
    try:
        module, _, name = order["job"].partition(":")
        outcome = {"value": getattr(importlib.import_module(module), name)(**order["payload"])}
        text = json.dumps({**outcome, "time": time.time()})
    except BaseException as error:
        outcome = describe(error)
        text = json.dumps({**outcome, "time": time.time()})
        if outcome["error"] is None:
            _log(order["payload"].get("run"), outcome["traceback"])
    for number in SIGNALS:  # a signal that comes now comes too late
        signal.signal(number, signal.SIG_IGN)
    temporary = folder / f"{os.environ['RANK']}.tmp"
    temporary.write_text(text)
    os.replace(temporary, temporary.with_suffix(".json"))
    return int("error" in outcome)


def describe(error: BaseException) -> dict[str, Any]:
    """The error as plain data: its nearest class in seglab.errors (None if it is no SeglabError), text and exit code."""
    from seglab import errors

    if isinstance(error, KeyboardInterrupt | SystemExit):
        code = 130 if isinstance(error, KeyboardInterrupt) else error.code
        if code in [128 + n for n in SIGNALS]:
            assert isinstance(code, int)
            error = errors.Stopped(f"ended by {signal.Signals(code - 128).name} before there was anything to save.", code)
    known = next((c.__name__ for c in type(error).__mro__ if getattr(errors, c.__name__, None) is c), None)
    last = traceback.format_exception_only(error)[-1].strip()
    return {
        "error": known,
        "text": str(error) if known else " ".join(last.split()),
        "exit_code": getattr(error, "exit_code", 1),
        "ends_sweep": getattr(error, "ends_sweep", False),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _leave(number: int, frame: FrameType | None) -> None:
    # Until the job has handlers of its own. No Exception: something that is being imported might swallow it.
    raise SystemExit(128 + number)


def _leave_nothing(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _log(run: str | None, text: str) -> None:
    rank = os.environ["RANK"]
    path = Path(run or ".", "train.log" if rank == "0" else f"train.rank{rank}.log")
    if run and path.parent.is_dir():
        with path.open("a") as file:
            file.write(text)


if __name__ == "__main__":
    done = main(Path(sys.argv[1]))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(done)  # taking torch apart module by module would take seconds, and now and then hangs
