"""hydra/launcher=ray: Ray itself on this machine, with two CPUs and two GPUs that are not there."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import TINY
from sweep_runs import WHOLE, Silent, command, run

from hydra_plugins.seglab.jobs import Listed
from seglab.errors import ConfigError, Stopped
from seglab.sweep import remote
from seglab.sweep.backend import Order
from seglab.sweep.folder import Sweep
from seglab.sweep.pool import Pool, Rules
from seglab.sweep.ray_cluster import Ray, Settings
from seglab.sweep.trial import Trial

if find_spec("ray") is None:  # not imported here: how it binds its ports is decided as it is imported
    pytest.skip("needs ray", allow_module_level=True)
FAKE = Path(__file__).with_name("fake_trial.py")
LONG = [*WHOLE, "data.train=120", "trainer.max_epochs=12", "pictures=0", "augment=medium", "keep.every_steps=3"]  # fmt: skip
ONCE = Rules()
MACHINE = {"num_cpus": 2, "num_gpus": 2}


def until(what, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def made(tmp_path: Path, kinds: list[tuple[float, str]], rules: Rules = ONCE, devices: int = 1, **settings) -> Pool:
    """A pool of fake trials, (seconds, kind) each, on a Ray of this machine."""
    trials = [Trial(n, [str(s), kind], {"n": str(n)}, str(n), devices=devices, epochs=4) for n, (s, kind) in enumerate(kinds)]
    sweep = Sweep(tmp_path / "sweep", ["n=..."], launcher="ray", total=len(trials))
    sweep.trials = list(trials)

    def order(trial: Trial, resumed: bool) -> Order:
        return Order([sys.executable, str(FAKE), str(sweep.folder(trial)), *trial.overrides], sweep.folder(trial), tmp_path)

    return Pool(sweep, Ray(Settings(machine=MACHINE, **settings)), Listed(trials), order, Silent(), rules)


def listening(inside: int) -> list[str]:
    """The addresses, in hexadecimal, at which processes below `inside` listen."""
    parents = {int(p.parent.name): int(p.read_text().rsplit(")", 1)[1].split()[1]) for p in Path("/proc").glob("[0-9]*/stat")}
    found, sockets = [inside], set()
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    for one in found[1:]:
        for file in Path(f"/proc/{one}/fd").glob("*"):
            if file.is_symlink() and os.readlink(file).startswith("socket:["):
                sockets.add(os.readlink(file)[8:-1])
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return [line[1].split(":")[0] for line in lines if line[3] == "0A" and line[9] in sockets]


@pytest.mark.slow
def test_each_gpu_is_one_trials_at_a_time(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    pool = made(tmp_path, [(1.2, "ok"), (0.8, "ok"), (1.2, "ok"), (0.8, "raise")], Rules(retries=1))
    assert pool.backend.slots() == 2
    assert signal.getsignal(signal.SIGTERM) is handler, "Ray keeps its hands off the sweep's signals"
    at = listening(os.getpid())
    assert at
    assert set(at) <= {"0100007F", "0000000000000000FFFF00000100007F"}, "no port on any interface but the loopback"
    pool.run()
    trials = pool.sweep.trials
    assert [t.state for t in trials] == ["finished"] * 3 + ["failed"]
    assert "the data are wrong" in trials[3].error
    assert trials[3].attempts == 2
    assert {t.place for t in trials} == {"0", "1"}
    moments = sorted((json.loads(p.read_text()) for p in pool.sweep.path.glob("[0-9]/moment.json")), key=lambda m: m["began"])
    assert all(m["threads"] == "1" and m["ranks"] == [] for m in moments)
    for device in "01":
        own = [m for m in moments if m["device"] == device]
        assert own
        assert all(a["ended"] <= b["began"] for a, b in itertools.pairwise(own))


@pytest.mark.slow
def test_ends_that_are_asked_for(tmp_path):
    """Two run and are asked to end; a third that waits in Ray's own queue is withdrawn. What cannot be had is said."""
    pool = made(tmp_path, [(30, "ok")] * 3, cpus=1, parallel=3)
    pool.backend.slots = lambda: 3

    def interrupt() -> None:
        until(lambda: sum((pool.sweep.path / n / "began").exists() for n in "012") == 2 and len(pool.running) == 3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped):
        pool.run()
    assert [t.state for t in pool.sweep.trials] == ["interrupted"] * 3
    assert not any(remote.busy(pool.sweep.path / n) for n in "012")

    pool = made(tmp_path / "more", [(1, "ok")], devices=3)
    pool.run()
    assert "3 GPUs, and Ray has 2 CPUs and 2 GPUs" in pool.sweep.trials[0].error


@pytest.mark.slow
def test_hung_and_killed_trials(tmp_path, monkeypatch):
    from seglab.sweep import pool as module

    monkeypatch.setattr(module, "HUNG", 1.0)
    pool = made(tmp_path, [(0.4, "hang"), (0.4, "kill")], Rules(trial_timeout=0.08))
    pool.run()
    assert "trial_timeout" in pool.sweep.trials[0].error
    assert "killed by SIGKILL" in pool.sweep.trials[1].error
    assert not remote.busy(pool.sweep.path / "0")


@pytest.mark.parametrize(("settings", "word"), [
    ({"gpus": -1}, "gpus=-1"), ({"gpus": 1.5}, r"gpus=1\.5"), ({"cpus": 0}, "cpus=0"), ({"memory_gb": 0}, "memory_gb=0"),
    ({"parallel": 0}, "parallel=0"), ({"machine": {"cpus": 2}}, r"machine\.cpus"), ({"machine": {"num_gpus": -1}}, "num_gpus=-1"),
    ({"address": "auto", "machine": {"num_cpus": 2}}, "machine is for a Ray that is started here"),
])  # fmt: skip
def test_mistakes(settings, word):
    with pytest.raises(ConfigError, match=word):
        Settings(**settings).check()


@pytest.mark.parametrize(("machines", "settings", "devices", "wanted"), [
    ([(16.0, 8.0)], {}, 1, (2, 1)), ([(16.0, 8.0)], {"gpus": 0.5}, 1, (1, 0.5)), ([(16.0, 8.0), (4.0, 0.0)], {}, 4, (8, 4)),
    ([(8.0, 0.0)], {}, 1, (8, 0)), ([(8.0, 0.0)], {"cpus": 2}, 1, (2, 0)), ([(8.0, 1.0)], {}, -1, (8, 1)),
])  # fmt: skip
def test_the_share_of_a_trial(machines, settings, devices, wanted):
    backend = Ray.__new__(Ray)
    backend.machines, backend.settings = machines, Settings(**settings)
    assert backend._wanted(devices) == wanted
    assert backend._fitting(*wanted) >= 1


@pytest.mark.slow
def test_four_trials_by_the_command(tmp_path):
    said = run(tmp_path, *TINY, "seed=1,2,3,4", "hydra.sweep.dir=s", "hydra/launcher=ray", "hydra.launcher.machine.num_cpus=2",
               "hydra.launcher.cpus=1")  # fmt: skip
    assert [t.state for t in Sweep.read(tmp_path / "s").trials] == ["finished"] * 4
    assert not any(word in said for word in ("INFO", "WARNING", "raylet", "pid="))


@pytest.mark.slow
def test_no_cluster_there(tmp_path):
    said = run(tmp_path, *TINY, "seed=1,2", "hydra/launcher=ray", "hydra.launcher.address=auto", code=1)
    assert "hydra.launcher.address=auto" in said
    assert len(said.splitlines()) < 4


@pytest.mark.slow
def test_kill_9_of_the_parent_and_on(tmp_path):
    """The trials save and end with it; the next session goes on with them, to the end that an undisturbed sweep has."""
    from kill_trials import unlike

    given = [*LONG, "seed=1,2", "hydra/launcher=ray", "hydra.launcher.machine.num_cpus=2", "hydra.launcher.cpus=1"]
    run(tmp_path, *LONG, "seed=1,2", "hydra.sweep.dir=whole", "hydra.launcher.per_trial=0.5")
    sweep = tmp_path / "s"
    parent = subprocess.Popen(command(*given, f"hydra.sweep.dir={sweep}"), cwd=tmp_path, stdout=-3, stderr=-3)
    until(lambda: (sweep / "0" / "metrics.csv").exists(), 120)
    parent.kill()
    parent.wait()
    until(lambda: not any(remote.busy(sweep / n) for n in "01"), 60)
    assert json.loads((sweep / "0" / "results.json").read_text())["status"] != "finished"
    run(tmp_path, f"sweep.resume={sweep}")
    assert [t.state for t in Sweep.read(sweep).trials] == ["finished"] * 2
    for number in "01":
        assert unlike(tmp_path / "whole" / number, sweep / number) == []
