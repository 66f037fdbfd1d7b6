"""The pool: leases, failures of every kind, retries, signals; with trials that only sleep."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from sweep_runs import Jobs, Silent

from seglab.errors import ConfigError, Stopped
from seglab.sweep.backend import Order
from seglab.sweep.devices import Devices
from seglab.sweep.failure import reason
from seglab.sweep.folder import Sweep
from seglab.sweep.local import Local
from seglab.sweep.pool import Pool, Rules
from seglab.sweep.trial import Trial

RULES = Rules()
FAKE = Path(__file__).with_name("fake_trial.py")


def pool(tmp_path: Path, kinds: list[tuple[float, str]], devices: Devices, rules: Rules = RULES, prune=(), halved=None) -> Pool:
    """A pool of fake trials, (seconds, kind) each."""
    trials = [Trial(n, [str(s), kind], {"n": str(n)}, str(n), devices=1, epochs=4) for n, (s, kind) in enumerate(kinds)]
    sweep = Sweep(tmp_path / "sweep", ["n=..."], total=len(trials))
    sweep.trials = list(trials)

    def order(trial: Trial, resumed: bool) -> Order:
        seconds, kind = [*trial.overrides, *trial.changed][-2:]
        return Order([sys.executable, str(FAKE), str(sweep.folder(trial)), seconds, kind], sweep.folder(trial), tmp_path)

    return Pool(sweep, Local(devices), Jobs(trials, prune), order, Silent(), rules, halved or (lambda trial: None))


def moments(made: Pool) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted(made.sweep.path.glob("[0-9]*/moment.json"))]


def states(made: Pool) -> list[str]:
    return [t.state for t in Sweep.read(made.sweep.path).trials]


def held(made: Pool) -> dict[str, list[tuple[float, float]]]:
    """When each device was held, in order."""
    found = moments(made)
    return {d: sorted((m["began"], m["ended"]) for m in found if m["device"] == d) for d in ("0", "1")}


def test_no_device_is_two_trials(tmp_path):
    made = pool(tmp_path, [(0.1 * (n % 3 + 1), "ok") for n in range(12)], Devices(["0", "1"]))
    made.run()
    for moments_ in held(made).values():
        assert len(moments_) > 3
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(moments_))
    assert made.sweep.best().number == 2
    assert os.readlink(made.sweep.path / "best") == "2"
    assert {t.state for t in made.sweep.trials} == {"finished"}
    assert [t.epoch for t in made.sweep.trials] == [4] * 12


@pytest.mark.slow
def test_devices_are_busy_while_there_is_work(tmp_path):
    """Trials of unequal length, handed out by availability, take little more than the best schedule that keeps the order."""
    seconds = [8.0, 2.0, 2.0, 4.0, 6.0, 2.0, 4.0, 2.0, 2.0, 4.0, 2.0, 2.0]
    made = pool(tmp_path, [(s, "ok") for s in seconds], Devices(["0", "1"]))
    began = time.monotonic()
    made.run()
    whole, free = time.monotonic() - began, [0.0, 0.0]
    for length in seconds:
        free[free.index(min(free))] += length
    assert max(free) / whole >= 0.9
    busy = sum(end - start for moments_ in held(made).values() for start, end in moments_)
    assert busy / (2 * whole) >= 0.9 * sum(seconds) / (2 * max(free))


@pytest.mark.slow
def test_failures_of_every_kind_leave_the_others_right(tmp_path):
    bad = {1: "kill", 4: "raise", 6: "hang", 9: "memory"}
    kinds = [(0.2, bad.get(n, "ok")) for n in range(12)]
    made = pool(tmp_path, kinds, Devices(["0", "1"]), Rules(trial_timeout=0.05))
    from seglab.sweep import pool as module

    patience, module.HUNG = module.HUNG, 0.5
    try:
        made.run()
    finally:
        module.HUNG = patience
    assert states(made) == ["failed" if n in bad else "finished" for n in range(12)]
    errors = {n: made.sweep.trials[n].error for n in bad}
    assert errors[1] == "killed by SIGKILL"
    assert "ValueError: [red]the data are wrong" in errors[4]
    assert errors[6] == "still running after trial_timeout=0.05 minutes"
    assert "MemoryError" in errors[9]
    assert "Traceback (most recent call last):" in made.sweep.trials[4].tail
    assert not made.running
    assert len((made.sweep.path / "summary.csv").read_text().splitlines()) == 13


def test_a_failed_trial_is_tried_again_as_often_as_asked(tmp_path):
    made = pool(tmp_path, [(0.1, "kill once"), (0.1, "kill")], Devices([]), Rules(retries=2))
    made.run()
    assert states(made) == ["finished", "failed"]
    assert [t.attempts for t in made.sweep.trials] == [2, 3]


def test_out_of_memory_halves_the_batch_and_says_so(tmp_path):
    made = pool(tmp_path, [(0.1, "memory")], Devices([]), Rules(halve_batch=True), halved=lambda t: ["0.1", "ok"])
    made.run()
    [trial] = Sweep.read(made.sweep.path).trials
    assert (trial.state, trial.changed, trial.attempts) == ("finished", ["0.1", "ok"], 2)
    assert (made.sweep.path / "0.1-out-of-memory" / "began").exists(), "what the first attempt wrote is kept"


def test_a_batch_that_cannot_be_halved_fails(tmp_path):
    made = pool(tmp_path, [(0.1, "memory")], Devices([]), Rules(halve_batch=True))
    made.run()
    assert states(made) == ["failed"]


def test_the_source_can_end_a_trial_early(tmp_path):
    made = pool(tmp_path, [(4.0, "ok"), (0.2, "ok")], Devices([], 0.5), prune=(0,))
    made.run()
    assert states(made) == ["pruned", "finished"]
    assert made.source.told[-1] == (0, "pruned")
    assert made.sweep.trials[0].epoch < 4


def test_a_signal_ends_the_trials_and_leaves_a_record(tmp_path):
    made = pool(tmp_path, [(20.0, "ok"), (20.0, "ok"), (20.0, "ok")], Devices(["0", "1"]))
    threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(Stopped) as error:
        made.run()
    assert error.value.exit_code == 130
    assert states(made) == ["interrupted", "interrupted", "waiting"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_pools_own_lets_the_trials_save(tmp_path):
    made, started = pool(tmp_path, [(20.0, "ok")], Devices([])), []

    def update() -> None:
        started.append(made.running[0].handle.process.process)
        raise RuntimeError("the pool is wrong")

    made.show.update = update
    with pytest.raises(RuntimeError, match="the pool is wrong"):
        made.run()
    assert started[0].wait(10) == -signal.SIGTERM
    assert states(made) == ["interrupted"]


def test_what_a_study_thought_of_when_the_signal_came_is_not_started(tmp_path):
    made = pool(tmp_path, [(20.0, "ok"), (20.0, "ok")], Devices(["0", "1"]))

    def think() -> Trial | None:
        if len(made.source.left) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return made.source.left.pop(0) if made.source.left else None

    made.source.next = think
    with pytest.raises(Stopped):
        made.run()
    assert states(made) == ["interrupted", "waiting"]
    assert made.sweep.trials[1].attempts == 0


def test_the_threads_that_the_user_set_are_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    made = pool(tmp_path, [(0.1, "ok")], Devices([]))
    made.run()
    assert [m["threads"] for m in moments(made)] == ["3"]
    assert made.sweep.trials[0].threads == 3


def test_a_signal_without_a_name_is_a_reason():
    assert reason(-35, [], {}, False) == "killed by signal 35"
    assert reason(-9, [], {}, False) == "killed by SIGKILL"


def test_the_environment_of_a_trial_is_clean(tmp_path, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("SEGLAB_CORES", "8")
    made = pool(tmp_path, [(0.1, "ok")], Devices(["0", "1"]))
    made.run()
    [moment] = moments(made)
    assert moment["ranks"] == []
    assert moment["threads"] == "4", "half of the cores, for two trials run at once"
    assert made.sweep.trials[0].threads == 4


def test_a_trial_that_never_fits_fails_and_the_others_run(tmp_path):
    made = pool(tmp_path, [(0.1, "ok"), (0.1, "ok")], Devices(["0", "1"]))
    made.sweep.trials[0].devices = 3
    made.run()
    assert states(made) == ["failed", "finished"]
    assert "trainer.devices=3, but the sweep has" in made.sweep.trials[0].error


def test_a_trial_goes_on_where_there_is_a_run_to_go_on_with(tmp_path):
    for again, log, expected in ((True, True, True), (True, False, False), (False, True, False)):
        seen = []
        made = pool(tmp_path / f"{again}{log}", [(0.1, "ok")], Devices([]))
        made.sweep.again = again  # killed before it could write down that the trial had begun: attempts is 0
        folder = made.sweep.folder(made.sweep.trials[0])
        folder.mkdir(parents=True)
        if log:
            (folder / "train.log").touch()
        order, made.order = made.order, lambda trial, resumed: seen.append(resumed) or order(trial, resumed)  # noqa: B023
        made.run()
        assert seen == [expected]


def test_jobs_of_another_launcher_are_not_started_twice(tmp_path):
    old, new = Sweep(tmp_path, [], launcher="slurm"), Sweep(tmp_path, [], launcher="pool")
    old.trials = [Trial(0, [], {}, "0", state="running", job="123")]
    with pytest.raises(ConfigError, match="jobs of hydra/launcher=slurm"):
        new.go_on(old)
    old.trials[0].state = "finished"
    new.go_on(old)
    assert new.trials[0].state == "finished"
