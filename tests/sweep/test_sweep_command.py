"""The command of a sweep: what is written down of it, what a resumed one repeats, and what its trials are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from sweep_runs import launcher

from hydra_plugins.seglab.jobs import command
from seglab.config import guard
from seglab.config.commandline import prepared, recorded, sweeping
from seglab.errors import ConfigError, DataError
from seglab.sweep.folder import Sweep
from seglab.sweep.trial import Trial

GO_ON = "hydra.launcher.resume=true"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["seglab.train"])
    yield
    HydraConfig.instance().cfg = None


def record(folder: str, command: list[str], hydra: list[str], *states: str, study: bool = False) -> None:
    trials = [Trial(n, [], {}, str(n), state=state) for n, state in enumerate(states)]
    Sweep(Path(folder), command, hydra, trials=trials, total=len(trials), study=study).write()


@pytest.mark.parametrize("more", [["hydra/launcher=ray"], ["hydra.launcher.retries=2"], ["+hydra.launcher.retries=2"]])
def test_hydras_own_settings_come_on_top_of_the_sweeps_command(more):
    record("s", ["seed=1,2"], ["hydra/launcher=pool", "hydra.launcher.retries=1"])
    given = sweeping(["-m", "sweep.resume=s", *more], True)
    kept = ["hydra.launcher.retries=1"] if more == ["hydra/launcher=ray"] else ["hydra/launcher=pool"]
    assert given == ["-m", "seed=1,2", *kept, *more, "hydra.sweep.dir='s'", GO_ON]


def test_where_the_configuration_is_belongs_to_the_command(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    monkeypatch.setattr("sys.argv", ["seglab.train", "-m", "--config-dir", "conf", "seed=1,2"])
    with launcher("seed=1,2") as made, made.opened() as sweep:
        made.trial(sweep, 0, ["seed=1"])
        sweep.write()
    where = f"--config-dir={tmp_path / 'conf'}"
    assert command()[-1] == where
    assert sweeping(["-m", "sweep.resume=s"], True) == [where, "-m", "seed=1,2", "hydra.sweep.dir='s'", GO_ON]
    for flags in (["--config-dir=conf"], ["-cd", "conf"]):
        assert sweeping(["-m", *flags, "sweep.resume=s"], True) == ["-m", *flags, "seed=1,2", "hydra.sweep.dir='s'", GO_ON]


def test_flags_may_stand_between_overrides():
    given = ["seed=1", "-m", "loss=ce", "--config-dir", "conf", "--config-name=x", "model=tiny"]
    assert prepared(given, {}) == ["-m", "--config-dir", "conf", "--config-name=x", "seed=1", "loss=ce", "model=tiny"]
    assert prepared(["loss=ce", "--cfg", "job", "~ema"], {}) == ["--cfg", "job", "loss=ce", "~ema"]


def test_auto_finds_the_sweep_of_the_same_configuration_that_has_something_left(tmp_path):
    def found(*words: str) -> bool:
        return GO_ON in sweeping(["-m", *words, "seed=1,2", "sweep.resume=auto"], True)

    record("multirun/a/b", ["seed=1,2"], [f"--config-dir={tmp_path / 'conf'}"], "finished", "failed")
    assert found("--config-dir", "conf")
    assert found("-cd=conf")
    assert not found()
    assert not found("--config-dir", "other")
    record("multirun/a/b", ["seed=1,2"], [], "finished", "failed")
    assert found()
    record("multirun/a/b", ["seed=1,2"], [], "finished", "failed", study=True)
    assert not found(), "a study does not try a failed trial again"


@pytest.mark.parametrize("word", ["--experimental-rerun=x.pickle", "-m", "--cfg=job", "-cd=x"])
def test_a_record_holds_no_flags_that_do_something(word):
    record("s", ["seed=1,2"], [])
    data = json.loads(Path("s/sweep.json").read_text())
    for key in ("command", "hydra"):
        Path("s/sweep.json").write_text(json.dumps({**data, key: [word]}))
        with pytest.raises(ConfigError, match="not a sweep's record"):
            recorded(Path("s"))
        with pytest.raises(ConfigError, match="not a sweep's record"):
            prepared(["-m", "sweep.resume=s"], {})


@pytest.mark.parametrize("folder", ["../x", "/tmp/x", ".", "a/../../x", "..", ""])
def test_a_record_names_no_folder_outside_the_sweep(folder):
    record("s", [], [], "failed")
    text = Path("s/sweep.json").read_text()
    Path("s/sweep.json").write_text(text.replace('"folder": "0"', f'"folder": "{folder}"'))
    with pytest.raises(DataError, match="the folder of trial 0"):
        Sweep.read(Path("s"))


@pytest.mark.parametrize("key", ["overrides", "changed"])
def test_the_overrides_of_a_recorded_trial_are_no_flags(key):
    record("s", [], [], "failed")
    data = json.loads(Path("s/sweep.json").read_text())
    data["trials"][0][key] = ["-m"]
    Path("s/sweep.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="-m is among the overrides of trial 0"):
        Sweep.read(Path("s"))


def test_equal_jobs_have_a_trial_each_after_a_resume_too():
    with launcher("seed=null,null") as made, made.opened() as sweep:
        first = [made.trial(sweep, n, ["seed=null"]).number for n in range(2)]
        sweep.write()
    with launcher("seed=null,null,null", resume=True) as made, made.opened() as sweep:
        again = [made.trial(sweep, n, ["seed=null"]).number for n in range(3)]
    assert (first, again) == ([0, 1], [0, 1, 2])


def test_two_trials_never_share_a_folder():
    with launcher("seed=1,2", "hydra.sweep.subdir=same") as made, made.opened() as sweep:
        made.trial(sweep, 0, ["seed=1"])
        with pytest.raises(ConfigError, match="folder same of trial 1 is that of trial 0 as well"):
            made.trial(sweep, 1, ["seed=2"])


def test_a_trials_folder_is_below_its_sweeps():
    with launcher("hydra.sweep.subdir=../x") as made, made.opened() as sweep, pytest.raises(ConfigError, match="is not below"):
        made.trial(sweep, 0, [])


def test_overrides_are_written_down_as_they_were_typed(monkeypatch):
    monkeypatch.setenv("HIDDEN", "secret")
    typed = ["name=${hydra:job.num}-${oc.env:HIDDEN}", "seed=1,2"]
    with launcher(*typed, "hydra.job.name=${oc.env:HIDDEN}") as made, made.opened() as sweep:
        trial = made.trial(sweep, 0, [typed[0], "seed=1"])
        sweep.write()
        assert sweep.command == typed
        assert trial.axes == {"seed": "1"}
        assert "hydra.job.name=${oc.env:HIDDEN}" in made.order(trial, False).command
    assert "secret" not in Path("s/sweep.json").read_text()


def test_a_trial_is_no_sweep_whatever_its_configuration_says():
    with launcher("hydra.mode=MULTIRUN") as made, made.opened() as sweep:
        words = made.order(made.trial(sweep, 0, []), False).command
    assert words[-1] == "hydra.mode=RUN"


def test_a_script_finds_what_lies_beside_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=None))
    monkeypatch.setattr("sys.flags", SimpleNamespace(safe_path=False))
    assert "-P" not in command()
    monkeypatch.setattr("sys.flags", SimpleNamespace(safe_path=True))
    assert "-P" in command()


@pytest.mark.parametrize("asked", ["[1]", "'2,3'"])
def test_a_trials_devices_are_a_number(asked):
    from hydra_plugins.seglab.jobs import devices_of

    with pytest.raises(ConfigError, match=r"hydra\.launcher\.devices; give a number"):
        devices_of({"devices": [1] if asked == "[1]" else asked.strip("'")})
    assert [devices_of({"devices": d}) for d in (2, "2", -1, None, "auto")] == [2, 2, -1, 1, -1]


def test_a_job_that_hydra_has_checked_is_not_composed_again(monkeypatch):
    asked = []
    real = guard.GuardedLoader.load_configuration
    monkeypatch.setattr(guard.GuardedLoader, "load_configuration", lambda *a, **k: asked.append(1) or real(*a, **k))
    with launcher("seed=1,2") as made, made.opened() as sweep:
        before = len(asked)
        for seed in (1, 2, 1):  # as Hydra does before it launches; of equal jobs as well
            made.context.config_loader.load_sweep_config(made.config, [f"seed={seed}"])
        checked = len(asked) - before
        trials = [made.trial(sweep, n, [f"seed={seed}"]) for n, seed in enumerate((2, 1))]
    assert (checked, len(asked) - before - checked) == (2, 1)
    assert [(t.number, t.folder) for t in trials] == [(0, "0"), (1, "1")]
