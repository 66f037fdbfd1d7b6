"""The door: what it makes of the command line, exit codes, and that nothing in the working directory or a config runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from seglab.config import door, load
from seglab.config.commandline import KEEP_RECORD, further_process, prepared, quoted
from seglab.errors import ConfigError, Stopped, TrainingError


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a job behind the door in tmp_path; (exit code, stdout and stderr)."""
    monkeypatch.chdir(tmp_path)

    def enter(job, *argv: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train", *argv])
        code = 0
        try:
            door(job, "train")
        except SystemExit as left:
            code = left.code
        return code, "".join(capsys.readouterr())

    return enter


def folder(path: Path, checkpoint: bool = True) -> Path:
    (path / "checkpoints").mkdir(parents=True)
    (path / ".hydra").mkdir()
    (path / ".hydra" / "config.yaml").write_text("seed: 7\n")
    if checkpoint:
        (path / "checkpoints" / "last.ckpt").touch()
    return path


# --- resume


@pytest.mark.parametrize(
    "name", ["run", "a run", "it's", 'a"b=c', "x,y", "[1]", "${seed}", "null", "b\\", "b\\'", "(x)", "3", "é"]
)
def test_a_resumed_run_stays_in_its_folder_whatever_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / name)
    config = load(prepared([f"resume={quoted(name)}"], {}), hydra=True)
    assert config.hydra.run.dir == name
    assert config.resume == name
    assert config.hydra.output_subdir is None


def test_a_folder_may_be_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(folder(tmp_path / "run").parent))
    assert f"hydra.run.dir='{tmp_path}/run'" in prepared(["resume=${oc.env:SCRATCH}/run"], {})
    auto = ["resume=auto", "hydra.run.dir=${oc.env:SCRATCH}/${hydra:job.name}"]
    assert prepared(auto, {}) == auto, "only Hydra knows this folder"


def test_a_sweeps_run_is_resumed_by_its_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "3")
    assert load(prepared(["resume=3"], {})).resume == "3"


def test_resuming_leaves_the_record_and_makes_no_other_folder(run, tmp_path):
    folder(tmp_path / "my run")
    seen = []
    code, _ = run(lambda config: seen.append(HydraConfig.get().runtime.output_dir), "resume='my run'", "seed=3")
    assert (code, seen) == (0, [str(tmp_path / "my run")])
    assert [p.name for p in (tmp_path / "my run" / ".hydra").iterdir()] == ["config.yaml"]
    assert (tmp_path / "my run" / ".hydra" / "config.yaml").read_text() == "seed: 7\n"
    assert [p.name for p in tmp_path.iterdir()] == ["my run"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["resume=nowhere"], "resume=nowhere: there is no such folder"), (["resume="], "no such folder"),
        (["resume=run/checkpoints/last.ckpt"], "give the folder of a run"),
        (["resume=run", "hydra.run.dir=other"], "two folders"), (["-m", "resume=run"], "sweep.resume=DIR"),
        (["resume=run", "hydra.mode=MULTIRUN"], "sweep.resume=DIR"), (["--experimental-rerun=x.pickle"], "could run any code"),
        (["--experimental-re", "x.pickle"], "could run any code"),
    ],
)  # fmt: skip
def test_what_cannot_be_resumed_is_one_sentence(argv, words, run, tmp_path):
    folder(tmp_path / "run")
    code, said = run(pytest.fail, *argv)
    assert code == 1
    assert words in said
    assert said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "Hydra must not have made the folder"


def test_one_folder_may_be_named_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "run")
    more = prepared(["resume=run", f"hydra.run.dir='{tmp_path}/run'"], {})
    assert prepared(more, {})[-1] == KEEP_RECORD  # as a process that Lightning starts with these arguments sees them


def test_resume_auto_keeps_the_record_once_there_is_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "a b")
    folder(tmp_path / "new", checkpoint=False)
    old = ["resume=auto", "hydra.run.dir='a b'"]
    assert prepared(old, {}) == [*old, KEEP_RECORD]
    for argv in (["resume=auto"], ["resume=auto", "hydra.run.dir=new"], ["resume=null", "hydra.run.dir='a b'"], ["seed=1"]):
        assert prepared(argv, {}) == argv
    assert prepared([*old, "-m"], {}) == ["-m", *old]


@pytest.mark.parametrize("environ", [{"RANK": "1"}, {"SLURM_PROCID": "3"}, {"RANK": "0", "SLURM_PROCID": "1"}])
def test_a_further_process_leaves_the_record_to_the_first(environ):
    assert prepared(["seed=1"], environ) == ["seed=1", KEEP_RECORD]


@pytest.mark.parametrize("environ", [{}, {"RANK": "0"}, {"SLURM_PROCID": ""}, {"RANK": "one", "LOCAL_RANK": "1"}])
def test_the_first_process_writes_it(environ):
    assert further_process(environ) == []


def test_what_hydra_refuses_is_left_to_hydra():
    assert prepared(["resume=(", "--cfg", "job"], {}) == ["--cfg", "job", "resume=("]


# --- a sweep that goes on


def sweep(path: Path, command: list[str], states: list[str], total: int = 2) -> Path:
    path.mkdir(parents=True)
    trials = [{"state": state} for state in states]
    (path / "sweep.json").write_text(
        json.dumps({"command": command, "hydra": ["hydra.launcher.retries=1"], "trials": trials, "total": total})
    )
    return path


GO_ON = "hydra.launcher.resume=true"


def test_a_sweep_goes_on_with_the_command_given_or_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path / "s", ["seed=1,2"], ["finished"])
    assert prepared(["-m", "seed=1,2,3", "sweep.resume=s"], {}) == ["-m", "seed=1,2,3", "hydra.sweep.dir='s'", GO_ON]
    assert prepared(["sweep.resume=s", "-m"], {}) == [
        "-m",
        "seed=1,2",
        "hydra.launcher.retries=1",
        "hydra.sweep.dir='s'",
        GO_ON,
    ]
    assert prepared(["-m", "seed=1", "sweep.resume=null"], {}) == ["-m", "seed=1"]


def test_auto_finds_the_latest_unfinished_sweep_of_the_same_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path / "multirun" / "2026-01-01" / "10-00-00", ["seed=1,2"], ["finished"])
    sweep(tmp_path / "multirun" / "2026-01-02" / "10-00-00", ["seed=1,2"], ["finished", "interrupted"])
    sweep(tmp_path / "multirun" / "2026-01-03" / "10-00-00", ["seed=1,2"], ["finished", "pruned"])
    sweep(tmp_path / "multirun" / "2026-01-04" / "10-00-00", ["seed=3,4"], ["finished"])
    (tmp_path / "multirun" / "2026-01-05" / "10-00-00").mkdir(parents=True)
    (tmp_path / "multirun" / "2026-01-05" / "10-00-00" / "sweep.json").write_text("[")
    found = "hydra.sweep.dir='multirun/2026-01-02/10-00-00'"
    assert prepared(["-m", "seed=1,2", "sweep.resume=auto"], {}) == ["-m", "seed=1,2", found, GO_ON]
    assert prepared(["-m", "seed=5,6", "sweep.resume=auto"], {}) == ["-m", "seed=5,6"]


def test_auto_with_a_folder_starts_there_or_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["-m", "seed=1,2", "hydra.sweep.dir=s"]
    assert prepared([*given, "sweep.resume=auto"], {}) == given
    sweep(tmp_path / "s", ["seed=1,2"], ["finished"])
    assert prepared([*given, "sweep.resume=auto"], {}) == [*given, GO_ON]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-m", "sweep.resume=nowhere"], "there is no nowhere/sweep.json"), (["sweep.resume=s"], "give -m"),
        (["-m", "sweep.resume=s", "hydra.sweep.dir=t"], "two folders"), (["-m", "sweep.resume=broken"], "not a sweep's record"),
        (["-m", "sweep.resum=s"], "Did you mean 'sweep.resume'?"),
    ],
)  # fmt: skip
def test_what_sweep_cannot_be_resumed_is_one_sentence(argv, words, run, tmp_path):
    sweep(tmp_path / "s", ["seed=1,2"], ["finished"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text('{"command": [1], "hydra": []}')
    code, said = run(pytest.fail, *argv)
    assert (code, said.count("\n")) == (1, 1)
    assert words in said


# --- exit codes


def raises(error: Exception, jobs: list | None = None):
    def job(config):
        if jobs is not None:
            jobs.append(config.seed)
        raise error

    return job


def test_an_error_leaves_with_its_own_code(run):
    assert run(raises(TrainingError("It diverged.")), "hydra.run.dir=a") == (1, "TrainingError: It diverged.\n")
    assert run(raises(Stopped("Saved.", 138)), "hydra.run.dir=b") == (138, "Stopped: Saved.\n")


def test_a_signal_ends_the_sweep_and_another_error_only_its_job(run):
    jobs: list[int] = []
    code, said = run(raises(Stopped("Saved.", 143), jobs), "-m", "hydra/launcher=basic", "seed=1,2,3", "hydra.sweep.dir=a")
    assert (code, jobs, said) == (143, [1], "Stopped: Saved.\n")
    jobs.clear()
    code, said = run(raises(ConfigError("No."), jobs), "-m", "hydra/launcher=basic", "seed=1,2,3", "hydra.sweep.dir=b")
    assert (code, jobs, said.count("ConfigError: No.")) == (1, [1, 2, 3], 3)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("mode", "key"), [((), "hydra.run.dir"), (("-m", "hydra/launcher=basic"), "hydra.sweep.dir"), (("-m",), "hydra.sweep.dir")]
)
def test_a_folder_that_cannot_be_made_is_one_sentence(mode, key, run, tmp_path):
    (tmp_path / "file").touch()
    code, said = run(pytest.fail, *mode, f"{key}=file/run")
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("ConfigError: file")
    assert f"cannot be written (Not a directory); choose another folder with {key}=DIR." in said


def test_a_full_disk_is_one_sentence_though_it_names_no_file(run, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hydra.core.utils._save_config", full)
    code, said = run(pytest.fail)
    assert code == 1
    assert said.startswith("ConfigError: The run's folder cannot be written (No space left on device); choose another")


def test_an_error_of_the_jobs_own_is_not_blamed_on_the_folder(run):
    with pytest.raises(FileNotFoundError):
        run(raises(FileNotFoundError(2, "No such file", "x")), "hydra.run.dir=a")


# --- nothing runs that a configuration or the working directory brings


HOSTILE = {
    "a callback": ("hydra", {"callbacks": {"x": {"_target_": "builtins.open", "file": "canary", "mode": "w"}}}),
    "a log handler": ("hydra/job_logging", {"version": 1, "handlers": {"x": {"class": "builtins.open", "file": "canary", "mode": "w"}}, "root": {"handlers": ["x"]}}),
    "a log factory": ("hydra/hydra_logging", {"version": 1, "filters": {"x": {"()": "builtins.open", "file": "canary", "mode": "w"}}, "root": {"level": "INFO"}}),
    "a sweeper's setting": ("hydra", {"sweeper": {"params": {"x": {"_target_": "builtins.open", "file": "canary", "mode": "w"}}}}),
    "more trust": ("hydra", {"job": {"env_set": {"SEGLAB_TRUST": "os"}}}),
    "a library": ("hydra", {"job": {"env_set": {"LD_PRELOAD": "evil.so"}}}),
}  # fmt: skip


@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["run", "sweep"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hydras_own_section_runs_nothing(name, mode, run, tmp_path):
    key, content = HOSTILE[name]
    for part in reversed(key.split("/")):
        content = {part: content}
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "evil.yaml").write_text("# @package _global_\n" + json.dumps(content))
    ran = []
    code, said = run(ran.append, *mode, "--config-dir=conf", "experiment=evil", "hydra.run.dir=out", "hydra.sweep.dir=out")
    assert not (tmp_path / "canary").exists()
    assert (code, ran) == (1, [])
    assert said.startswith("ConfigError: hydra.")
    assert said.count("\n") == 1


def test_plugins_and_plain_loggers_of_hydra_stay_allowed(monkeypatch):
    load(["hydra/job_logging=default", "hydra/hydra_logging=default", "+hydra.job.env_set.OMP_NUM_THREADS=2"], hydra=True)
    with pytest.raises(ConfigError, match="Hydra would run this"):
        load(["+hydra.callbacks.x._target_=mine.Callback"])
    monkeypatch.setenv("SEGLAB_TRUST", "other, mine")
    load(["+hydra.callbacks.x._target_=mine.Callback"])


PLANTED = ("yaml", "omegaconf", "hydra", "torch", "lightning", "json5", "hydra_plugins/evil/__init__")


def python(cwd: Path, *command: str, **environ: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if k not in ("SEGLAB_TRUST", "PYTHONPATH")}
    return subprocess.run([sys.executable, *command], cwd=cwd, env={**clean, **environ}, capture_output=True, text=True)


TORCH = pytest.param(("seglab.config", "explain", "trainer.max_time"), marks=pytest.mark.slow)  # imports the true torch


@pytest.mark.parametrize("command", [("seglab.train", "--cfg", "job"), ("seglab.config", "explain", "seed"), TORCH])
def test_a_module_planted_in_the_working_directory_is_not_imported(command, tmp_path):
    for name in PLANTED:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("open('canary', 'a').write(__name__)\n")
    done = python(tmp_path, "-m", *command)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "canary").exists()
    python(tmp_path, "-c", "import yaml")
    assert (tmp_path / "canary").read_text() == "yaml", "else this test could not fail"


@pytest.mark.slow  # imports torch
def test_a_trusted_package_of_ones_own_is_found_in_the_working_directory(tmp_path):
    (tmp_path / "mine.py").write_text("import torch\nclass Net(torch.nn.Linear):\n    '''Args: size: how big'''\n")
    (tmp_path / "yaml.py").write_text("raise SystemExit('planted')\n")
    question = ("-m", "seglab.config", "explain", "model.in_features", "model._target_=mine.Net")
    done = python(tmp_path, *question, SEGLAB_TRUST="mine")
    assert "an argument of mine.Net" in done.stdout, done.stderr
    done = python(tmp_path, *question)
    assert done.returncode == 1
    assert "'mine' is not trusted" in done.stderr
