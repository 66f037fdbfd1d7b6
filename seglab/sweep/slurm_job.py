"""A trial's job, on the node where SLURM runs it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from seglab.sweep import remote
from seglab.sweep.pool import ENDED

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

LOOK = 0.5  # seconds
GRACE = 600.0  # seconds that a job which SLURM ends by SIGTERM waits for what comes next: the end, or its next start
SAVED = (*ENDED, -signal.SIGTERM)  # it is SIGTERM's where that came once more while Python was leaving


class Job:
    """What a job runs; submitit pickles it and calls it there, and `checkpoint` before the job's time is up."""

    def __init__(self, task: dict[str, Any], patience: float) -> None:
        self.task, self.patience = task, patience
        self.runner: remote.Runner | None = None
        self.ending = self.left = False

    def __call__(self) -> int:
        """Run the trial; its exit code."""
        runner = self.runner = remote.Runner(**self.task)
        signal.signal(signal.SIGTERM, self._end)
        try:
            code = runner.run()
            if code in SAVED and not remote.requested(runner.folder):
                self._rest()
        except Exception as error:  # submitit's, if the job is not queued again
            if not self.left:
                remote.say(runner.folder, f"JobError: {' '.join(str(error).split())}")
                runner.leave(1)
            raise
        runner.leave(code)
        return code

    def checkpoint(self) -> DelayedSubmission | None:
        """Let the trial save and leave; then submitit has the job queued again, to go on. None if it came to its end."""
        from submitit.helpers import DelayedSubmission

        if self.runner is not None and self.runner.process is not None:
            self.runner.ask("end")
            code = self.runner.wait(self.patience)
            if code not in (*SAVED, -signal.SIGKILL) or remote.requested(self.runner.folder):
                self.runner.leave(code)
                self.left = True
                return None
        return DelayedSubmission(Job(self.task, self.patience))

    def _end(self, number: int, frame: Any) -> None:
        """SLURM takes the node away (preemption, scancel): save."""
        self.ending = True
        if self.runner is not None:
            self.runner.ask("end")

    def _rest(self) -> None:
        """A job that leaves by itself when SLURM preempts it counts as done; one that is still there is queued again."""
        deadline = time.monotonic() + (GRACE if self.ending and "SLURM_JOB_ID" in os.environ else 0)
        while time.monotonic() < deadline:
            time.sleep(LOOK)
