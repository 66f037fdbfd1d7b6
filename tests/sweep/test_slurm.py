"""hydra/launcher=slurm: the script that sbatch gets, ends of every kind, jobs taken over; on a cluster that is a fake.

The fake (fake_slurm/) runs the scripts it is given, has two GPUs, and sends signals to all processes of a job.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import TINY
from sweep_runs import LONG, Jobs, Silent, command, run

from seglab.errors import ConfigError, Stopped
from seglab.sweep import queues, remote, slurm
from seglab.sweep.backend import Order
from seglab.sweep.folder import Sweep
from seglab.sweep.pool import Pool, Rules
from seglab.sweep.slurm import Settings, Slurm
from seglab.sweep.trial import Trial

pytest.importorskip("submitit")
ONCE = Rules()
HERE = Path(__file__).parent


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The fake cluster's memory; nothing of it outlives the test."""
    home = tmp_path / "cluster"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{HERE / 'fake_slurm'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(home))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(queues, "LOOK", 0.3)
    monkeypatch.setattr(slurm, "LATE", 1.0)
    yield home
    for job in home.glob("*/keeper"):
        (job.parent / "ask").write_text("NODE_FAIL")
        (job.parent / "cancel").touch()
    until(
        lambda: not any(Path("/proc", k.read_text(), "fd").exists() and _alive(k.read_text()) for k in home.glob("*/keeper")),
        15,
    )


def _alive(process: str) -> bool:
    with contextlib.suppress(OSError):
        return b"machine.py" in Path("/proc", process, "cmdline").read_bytes()
    return False


def until(what, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def made(tmp_path: Path, kinds: list[tuple[float, str]], prune=(), rules: Rules = ONCE, **settings) -> Pool:
    """A pool of fake trials, (seconds, kind) each, on the cluster."""
    trials = [Trial(n, [str(s), kind], {"n": str(n)}, str(n), epochs=4) for n, (s, kind) in enumerate(kinds)]
    sweep = Sweep(tmp_path / "sweep", ["n=..."], launcher="slurm", total=len(trials))
    sweep.trials = list(trials)

    def order(trial: Trial, resumed: bool) -> Order:
        words = [sys.executable, str(HERE / "fake_trial.py"), str(sweep.folder(trial)), *trial.overrides]
        return Order([*words, *(["resume=auto"] if resumed else [])], sweep.folder(trial), tmp_path, {"SEGLAB_TRIAL": "{}"})

    backend = Slurm(Settings(**settings), sweep.path / ".slurm", "sweep")
    return Pool(sweep, backend, Jobs(trials, prune), order, Silent(), rules)


def script(pool: Pool, job: str = "1") -> list[str]:
    return (pool.sweep.path / ".slurm" / f"{job}_submission.sh").read_text().splitlines()


def test_the_script_asks_for_one_gpu_one_task_and_a_signal_in_time(tmp_path, cluster):
    (cluster / "hold").touch()
    pool = made(
        tmp_path, [(0.1, "ok")], partition="gpu", account="lab", more={"constraint": "a100"}, setup=["module load cuda"]
    )
    trial = pool.sweep.trials[0]
    pool.backend.start(trial, pool.order(trial, False))
    lines = script(pool)
    options = {line.partition("=")[0][10:]: line.partition("=")[2] for line in lines if line.startswith("#SBATCH")}
    for key in ("output", "error"):
        options.pop(key)
    assert options == {
        "gpus-per-node": "1", "nodes": "1", "ntasks-per-node": "1", "cpus-per-task": "8", "mem": "32768M", "time": "240",
        "signal": "USR2@120", "partition": "gpu", "account": "lab", "constraint": "a100", "job-name": "sweep.0",
        "open-mode": "append", "wckey": "submitit",
    }  # fmt: skip
    assert "module load cuda" in lines
    [srun] = [line for line in lines if line.startswith("srun")]
    assert "--cpus-per-task=8" in srun
    assert "--ntasks" not in srun
    assert trial.job == "1"
    assert trial.place == "job 1"
    assert trial.threads == 8


@pytest.mark.parametrize(("devices", "settings", "gpus", "cpus", "mem"), [
    (2, {}, "2", "16", "65536M"), (-1, {"cpus": 3}, "1", "3", "32768M"), (1, {"gpus": 0, "memory_gb": None}, None, "8", None),
])  # fmt: skip
def test_a_job_is_as_large_as_its_trial(tmp_path, cluster, devices, settings, gpus, cpus, mem):
    (cluster / "hold").touch()
    pool = made(tmp_path, [(0.1, "ok")], **settings)
    trial = pool.sweep.trials[0]
    trial.devices = devices
    pool.backend.start(trial, pool.order(trial, False))
    options = {line.partition("=")[0][10:]: line.partition("=")[2] for line in script(pool) if line.startswith("#SBATCH")}
    assert (options.get("gpus-per-node"), options["cpus-per-task"], options.get("mem")) == (gpus, cpus, mem)
    assert (options["nodes"], options["ntasks-per-node"]) == ("1", "1")


@pytest.mark.slow
def test_trials_run_retry_and_fail_each_by_itself(tmp_path, cluster, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pool = made(tmp_path, [(0.4, "ok"), (0.4, "raise"), (0.4, "kill once"), (0.4, "ok")], rules=Rules(retries=1), cpus=2)
    pool.run()
    trials = pool.sweep.trials
    assert [t.state for t in trials] == ["finished", "failed", "finished", "finished"]
    assert "the data are wrong" in trials[1].error
    assert [t.attempts for t in trials] == [1, 2, 2, 1]
    assert all(t.job is None and t.place.startswith("job ") and t.place[-2:] in (":0", ":1") for t in trials)
    moments = [json.loads((pool.sweep.path / n / "moment.json").read_text()) for n in "023"]
    assert all(m["ranks"] == [] and m["threads"] == "2" and m["device"] in "01" for m in moments)
    calls = (cluster / "calls").read_text().split("\n")
    assert sum(c.startswith("sbatch") for c in calls) == 6
    assert not any(c.startswith("sacct") for c in calls), "the runner's word is enough"


@pytest.mark.slow
def test_a_job_that_comes_back_goes_on_until_its_requeues_are_used_up(tmp_path, cluster):
    """Its minutes are so few that each signal counts as the end of them. `sleep` leaves by SIGTERM, as a run that saves does."""
    pool = made(tmp_path, [(30, "ok")], requeues=1, minutes=5)
    folder = pool.sweep.path / "0"

    def press() -> None:
        for start in (1, 2):
            until(lambda start=start: (folder / "began").exists() and (cluster / "calls").read_text().count("srun") == start)
            (folder / "began").unlink()
            (cluster / "1" / "ask").write_text("USR2")

    threading.Thread(target=press).start()
    pool.run()
    assert (cluster / "calls").read_text().count("scontrol requeue 1") == 1
    assert "timed-out too many times" in pool.sweep.trials[0].error


@pytest.mark.slow
def test_a_preempted_job_waits_to_be_queued_again(tmp_path, cluster):
    """SIGTERM: the trial leaves, the job stays without a word until SLURM takes it; the next start goes on."""
    pool = made(tmp_path, [(2, "ok")])
    folder = pool.sweep.path / "0"
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *a: sys.exit(143)); import fake_trial as f; " \
           "from pathlib import Path; print(sys.argv, flush=True); f.main(Path(sys.argv[1]), 2, 'ok')"  # fmt: skip
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); {code}", str(folder)]
    pool.order = lambda trial, resumed: Order(words, folder, tmp_path)

    def preempt() -> None:
        until(lambda: (folder / "began").exists())
        (cluster / "1" / "ask").write_text("TERM")
        until(lambda: not remote.busy(folder))
        time.sleep(1.5)
        assert remote.left(folder) is None
        (cluster / "1" / "requeue").touch()

    threading.Thread(target=preempt).start()
    pool.run()
    assert [t.state for t in pool.sweep.trials] == ["finished"]
    first, second = (folder / "output.log").read_text().splitlines()
    assert "resume=auto" not in first
    assert "resume=auto" in second


@pytest.mark.slow
@pytest.mark.parametrize(("state", "sentence"), [
    ("OUT_OF_MEMORY", "the machine's memory ran out"), ("NODE_FAIL", "JobError: job 1 is gone, without a word of its trial: NODE_FAIL"),
])  # fmt: skip
def test_a_job_that_dies_without_a_word(tmp_path, cluster, state, sentence):
    pool = made(tmp_path, [(30, "ok")])

    def die() -> None:
        until(lambda: (pool.sweep.path / "0" / "began").exists())
        (cluster / "1" / "ask").write_text(state)

    threading.Thread(target=die).start()
    pool.run()
    [trial] = pool.sweep.trials
    assert trial.state == "failed"
    assert sentence in trial.error


@pytest.mark.slow
def test_a_job_without_a_runner_tells_what_its_shell_said(tmp_path, cluster):
    pool = made(tmp_path, [(0.1, "ok")], setup=["echo no such module >&2; exit 3"])
    pool.run()
    [trial] = pool.sweep.trials
    assert trial.state == "failed"
    assert "FAILED" in trial.error


@pytest.mark.slow
def test_the_pool_ends_what_runs_and_withdraws_what_waits(tmp_path, cluster):
    pool = made(tmp_path, [(20, "ok"), (20, "ok"), (20, "ok")], prune=(0,), parallel=3)

    def interrupt() -> None:
        until(lambda: (cluster / "3" / "state").exists() and any(t.state == "pruned" for t in pool.sweep.trials))
        until(lambda: sum((pool.sweep.path / n / "began").exists() for n in "012") == 3)
        (cluster / "hold").touch()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        pool.run()
    assert time.monotonic() - began < 25
    assert [t.state for t in pool.sweep.trials] == ["pruned", "interrupted", "interrupted"]
    assert not any(remote.busy(pool.sweep.path / n) for n in "012")


@pytest.mark.slow
def test_a_waiting_job_is_cancelled_at_once(tmp_path, cluster):
    (cluster / "hold").touch()
    pool = made(tmp_path, [(20, "ok")])
    threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped):
        pool.run()
    assert (cluster / "1" / "state").read_text().startswith("CANCELLED")
    assert not (pool.sweep.path / "0" / "began").exists()


@pytest.mark.slow
def test_hung_trials_are_killed(tmp_path, cluster, monkeypatch):
    from seglab.sweep import pool as module

    monkeypatch.setattr(module, "HUNG", 1.0)
    pool = made(tmp_path, [(0.4, "hang")], rules=Rules(trial_timeout=0.05))
    pool.run()
    assert "trial_timeout" in pool.sweep.trials[0].error
    until(lambda: not remote.busy(pool.sweep.path / "0"), 10)


@pytest.mark.slow
def test_a_later_session_takes_a_job_over(tmp_path, cluster):
    pool = made(tmp_path, [(3, "ok")])
    trial = pool.sweep.trials[0]
    pool.backend.start(trial, pool.order(trial, False))
    trial.attempts = 1
    again = made(tmp_path, [(3, "ok")])
    again.source.left, again.sweep.trials = [trial], [trial]  # as read from sweep.json
    again.run()
    assert trial.state == "finished"
    assert trial.attempts == 2
    assert (cluster / "calls").read_text().count("sbatch") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "submitted"), [("ok", 1), ("raise", 1), ("cancelled", 2), ("asked", 2)])
def test_a_later_session_reads_how_a_job_ended(tmp_path, cluster, kind, submitted):
    """One that finished or failed is not repeated; one that was cancelled, or asked to end by the session before, goes on."""
    pool = made(tmp_path, [(1, "ok" if kind in ("cancelled", "asked") else kind)])
    trial = pool.sweep.trials[0]
    handle = pool.backend.start(trial, pool.order(trial, False))
    trial.attempts = 1
    if kind in ("cancelled", "asked"):
        until(lambda: (pool.sweep.path / "0" / "began").exists())
        remote.request(handle.folder, "end") if kind == "asked" else (cluster / "1" / "ask").write_text("NODE_FAIL")
    if kind != "asked":
        until(lambda: (cluster / "1" / "state").read_text() not in ("PENDING", "TAKEN", "RUNNING"))
    again = made(tmp_path, [(1, "ok")])
    again.source.left, again.sweep.trials = [trial], [trial]  # as read from sweep.json
    again.run()
    assert trial.state == ("failed" if kind == "raise" else "finished")
    assert (cluster / "calls").read_text().count("sbatch") == submitted


def test_what_sbatch_refuses_is_one_sentence(tmp_path, cluster):
    (cluster / "refuse").write_text("sbatch: error: invalid partition specified: gpu")
    pool = made(tmp_path, [(0.1, "ok")], partition="gpu")
    pool.run()
    assert "sbatch refused the job (sbatch: error: invalid partition specified: gpu); see" in pool.sweep.trials[0].error


@pytest.mark.parametrize(("settings", "word"), [
    ({"cluster": "lsf"}, "cluster=lsf"), ({"minutes": 0}, "minutes=0"), ({"cpus": -1}, "cpus=-1"), ({"gpus": "two"}, "gpus=two"),
    ({"memory_gb": -3}, "memory_gb=-3"), ({"signal_delay_s": 300, "minutes": 5}, "signal_delay_s=300"), ({"parallel": True}, "parallel"),
    ({"more": {"ntasks_per_node": 4}}, "ntasks-per-node"),
])  # fmt: skip
def test_mistakes(cluster, settings, word):
    with pytest.raises(ConfigError, match=word):
        Settings(**settings).check()


def test_no_cluster_here(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="needs the command sbatch"):
        Settings().check()


def test_a_missing_package_is_one_sentence(monkeypatch):
    from hydra_plugins.seglab import clusters

    monkeypatch.setattr(clusters, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "seglab\[slurm\]"'):
        clusters.SlurmLauncher().checked()
    with pytest.raises(ConfigError, match=r'pip install "seglab\[ray\]"'):
        clusters.RayLauncher().checked()


@pytest.mark.parametrize("given", [{"setup": ["touch x"]}, {"more": {"wrap": "touch x"}}])
def test_a_strangers_record_runs_no_shell_lines(cluster, monkeypatch, given):
    from hydra_plugins.seglab import clusters

    monkeypatch.setattr(clusters, "by_record", ["seed=1,2"])
    with pytest.raises(ConfigError, match="repeat the sweep's own command"):
        clusters.SlurmLauncher(**given).checked()
    monkeypatch.setattr(clusters, "by_record", [])
    clusters.SlurmLauncher(**given).checked()


def test_a_setting_that_does_not_exist():
    from hydra_plugins.seglab import clusters

    with pytest.raises(ConfigError, match="Did you mean 'partition'"):
        clusters.SlurmLauncher(partitoin="gpu").checked()


def states(sweep: Path) -> list[str]:
    return [t.state for t in Sweep.read(sweep).trials]


@pytest.mark.slow
def test_four_trials_by_submitits_own_processes(tmp_path):
    said = run(tmp_path, *TINY, "seed=1,2,3,4", "hydra.sweep.dir=s", "hydra/launcher=slurm", "hydra.launcher.cluster=local",
               "hydra.launcher.gpus=0", "hydra.launcher.cpus=1", "hydra.launcher.parallel=2")  # fmt: skip
    assert states(tmp_path / "s") == ["finished"] * 4
    assert "submitit INFO" not in said
    assert len((tmp_path / "s" / "summary.csv").read_text().splitlines()) == 5


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A sweep that nobody disturbs."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(folder, *LONG, "seed=1,2", "hydra.sweep.dir=s", "hydra.launcher.per_trial=0.5")
    return folder / "s"


def alike(one: Path, other: Path) -> None:
    from kill_trials import unlike

    for number in "01":
        assert unlike(one / number, other / number) == []


@pytest.mark.slow
def test_a_job_whose_time_is_up_goes_on_bit_for_bit(tmp_path, cluster, unbroken):
    """SIGUSR2 before the time limit: saved, queued again, on to the same end; the trial itself never sees the signal."""
    given = [*LONG, "seed=1,2", f"hydra.sweep.dir={tmp_path / 's'}", "hydra/launcher=slurm", "hydra.launcher.cpus=1"]
    parent = subprocess.Popen(command(*given), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: (tmp_path / "s" / "0" / "metrics.csv").exists(), 120)
    (cluster / "1" / "ask").write_text("USR2")
    said = parent.communicate(timeout=400)[0]
    assert parent.returncode == 0, said
    calls = (cluster / "calls").read_text()
    assert "scontrol requeue 1" in calls
    assert calls.count("sbatch") == 2
    assert "resume=auto" in (tmp_path / "s" / "0" / ".hydra" / "overrides.yaml").read_text()
    assert "resume=auto" not in (tmp_path / "s" / "1" / ".hydra" / "overrides.yaml").read_text()
    assert states(tmp_path / "s") == ["finished"] * 2
    alike(unbroken, tmp_path / "s")


@pytest.mark.slow
def test_kill_9_of_the_parent_and_its_jobs_go_on(tmp_path, cluster, unbroken):
    sweep = tmp_path / "s"
    given = [*LONG, "seed=1,2", f"hydra.sweep.dir={sweep}", "hydra/launcher=slurm", "hydra.launcher.cpus=1"]
    parent = subprocess.Popen(command(*given), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: (sweep / "0" / "metrics.csv").exists(), 120)
    parent.kill()
    parent.wait()
    run(tmp_path, f"sweep.resume={sweep}")
    assert (cluster / "calls").read_text().count("sbatch") == 2
    assert states(sweep) == ["finished"] * 2
    alike(unbroken, sweep)
