"""Mistakes in the command of a sweep: one sentence that names the culprit and the remedy, and nothing that runs all the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from sweep_runs import launcher

from hydra_plugins.seglab import clusters, sweepers
from hydra_plugins.seglab.launchers import PoolLauncher
from seglab.config import door
from seglab.config.commandline import prepared
from seglab.errors import ConfigError
from seglab.processes import TRIAL
from seglab.sweep.devices import Devices
from seglab.sweep.folder import Sweep
from seglab.sweep.table import Table
from seglab.sweep.trial import Trial

LR = "optimizer.lr=interval(1e-4,1e-2)"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    HydraConfig.instance().cfg = None


@pytest.fixture
def said(monkeypatch, capsys):
    """What the door says to a command line; it must be one line, and nothing may be left behind."""

    def enter(*argv: str) -> str:
        monkeypatch.setattr(sys, "argv", ["seglab.train", *argv])
        with pytest.raises(SystemExit) as left:
            door(pytest.fail, "train")
        text = "".join(capsys.readouterr())
        assert (left.value.code, text.count("\n")) == (1, 1), text
        return text

    return enter


def record(folder: str, command: list[str], *states: str, study: bool = False) -> Sweep:
    trials = [Trial(n, [f"seed={n}"], {"seed": str(n)}, str(n), state=state) for n, state in enumerate(states)]
    made = Sweep(Path(folder), command, trials=trials, total=len(trials), study=study)
    made.write()
    return made


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["hparams=lr"], "hparams=lr is for a study; give -m"), (["hydra/sweeper=optuna", LR], "hydra/sweeper=optuna is for a study; give -m"),
        (["-m", "hparams=lr,recipe"], "a study searches one space"), (["-m", "loss=ce,dice", "--cfg", "job"], "leave -m out"),
        (["-m", "seed=1,2", "hydra.launcher=ray"], "give hydra/launcher=ray"), (["-m", "hydra.sweeper=optuna"], "give hydra/sweeper=optuna"),
        (["-m", "seed=1,2", "hydra.launcher.devices=0,1"], "a list is written [0,1]"), (["-m", "hydra/launcher=pool,ray"], "one hydra/launcher"),
        (["-m", "hparams=lr", '+hydra.sweeper.params.loss="ce,dice"'], "write 'loss=...'"),
        (["-m", "sweep.resume=auto"], "sweep of the same command; repeat it"), (["-m", "sweep.resume=auto", "hydra.launcher.retries=1"], "repeat it"),
        (["-m", "seed=1,2", "sweep.resume=auto", "hydra/launcher=basic"], "hydra/launcher=basic knows nothing"),
        (["resume=s"], "s is the folder of a sweep; go on with -m sweep.resume=s"),
        (["-m", "sweep.resume=s", "trainer.max_epochs=40"], "leaves out what the sweep's own sets (model, seed)"),
        (["-m", "sweep.resume=s", "seed=4,5"], "leaves out what the sweep's own sets (model)"),
    ],
)  # fmt: skip
def test_what_a_command_cannot_mean_is_said_before_hydra_reads_it(argv, words):
    record("s", ["model=tiny", "seed=1,2"], "interrupted")
    with pytest.raises(ConfigError) as caught:
        prepared(argv, {})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["hparams=lr", "--cfg", "job"], ["hparams=lr", "--cfg=hydra"], ["hparams=null"], ["-m", "hparams=lr"], ["hparams=lr", "hydra.mode=MULTIRUN"],
        ["-m", "seed=1,2", "sweep.resume=auto"], ["-m", "hydra.sweep.dir=t", "sweep.resume=auto"], ["-m", "hparams=lr", "~hydra.sweeper.params.x"],
        ["-m", "model=fpn", "seed=1,2,3", "loss=ce", "sweep.resume=s"], ["-m", "sweep.resume=s", "hydra.launcher.retries=1"],
    ],
)  # fmt: skip
def test_what_looks_alike_is_not_refused(argv):
    record("s", ["model=tiny", "seed=1,2"], "interrupted")
    prepared(argv, {})


def test_a_trial_of_a_study_keeps_the_command_of_its_study():
    prepared(["hparams=lr", "optimizer.lr=0.001"], {TRIAL: "{}"})


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["loss=ce,dice"], "'loss=ce,dice' names several values; give -m"),
        (["-m", LR], f"'{LR}': only a study searches intervals; give hydra/sweeper=optuna"),
        (["-m", "optimizer.lr=intervall(1,2)"], "there is no function 'intervall'. Did you mean 'interval'?"),
        (["-m", "optimizer.lr=log(1e-4,1e-2)"], "there is no function 'log'. Write tag(log, interval(a,b))."),
        (["-m", "optimizer.lr=interval(1)"], "cannot be read: missing a required argument: 'end'."),
        (["-m", "seed=1,2", "hydra/sweper=optuna"], "Did you mean 'hydra/sweeper'?"), (["-m", "seed=1,2", "launcher=ray"], "'hydra/launcher'?"),
        (["-m", "seed=1,2", "launcher.devices=cpu"], "Did you mean 'hydra.launcher.devices'?"),
        (["-m", "loss=ce,dice", "hydra.sweeper.trials=4"], "hydra.sweeper.trials is a setting of hydra/sweeper=optuna; choose that"),
        (["-m", "loss=ce,dice", "hydra.launcher.partition=gpu"], "hydra.launcher.partition is a setting of hydra/launcher=slurm"),
        (["-m", "loss=ce,dice", "hydra/launcher=slurm", "hydra.launcher.partiton=gpu"], "Did you mean 'partition'?"),
        (["-m", "hparams=lr", "hydra.sweeper.sampler_settings.n=4"], "It is empty; +hydra.sweeper.sampler_settings.n=... puts it there."),
        (["-m", "seed=1,2", "+hydra.launcher.device=[0]"], "There is no key 'device' in 'hydra.launcher'. Did you mean 'devices'?"),
        (["-m", "seed=1,2", "hydra.launcher.per_trial=null"], "hydra.launcher.per_trial=None; it must be auto"),
    ],
)  # fmt: skip
def test_hydras_own_words_become_a_sentence(argv, words, said):
    assert words in said(*argv)


def test_of_several_models_the_misspelt_key_is_known(said):
    assert "Did you mean 'model'?" in said("-m", "modle=tiny,unet")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["hydra.sweeper.sampler=tpee"], "Did you mean 'tpe'?"), (["hydra.sweeper.trials=0"], "1 or more"), (["loss=cee,dice"], "Did you mean 'ce'?"),
        (["+hydra.sweeper.sampler_settings.n_startup_trials=many"], "hydra.sweeper.sampler_settings: tpe cannot use them"),
        (["hydra.sweeper.objectives=val/iou"], "hydra.sweeper.objectives is val/iou; write {val/iou: max}"),
    ],
)  # fmt: skip
def test_a_study_that_is_refused_leaves_nothing_behind(argv, words, said, tmp_path):
    pytest.importorskip("optuna")
    assert words in said("-m", "hparams=lr", *argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("per_trial", "words"), [(0.001, "at least 0.016"), ([1], "must be auto"), (2, "the CPUs count as one device")]
)
def test_shares_that_cannot_be(per_trial, words):
    with pytest.raises(ConfigError, match=words):
        Devices([], per_trial)


def test_a_trial_that_is_too_large_names_the_setting():
    with pytest.raises(ConfigError, match=r"trainer\.devices=3, but the sweep has 2 devices \(0, 1\); ask for fewer"):
        Devices(["0", "1"]).wanted(3)
    with pytest.raises(ConfigError, match=r"per_trial=2, but the sweep has 1 device \(0\)"):
        Devices(["0"], 2).wanted(1)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (clusters.SlurmLauncher, {"setup": 5}, "hydra.launcher.setup"), (clusters.SlurmLauncher, {"more": 5}, "hydra.launcher.more"),
        (clusters.RayLauncher, {"machine": 4}, "hydra.launcher.machine"), (clusters.RayLauncher, {"address": 5}, "hydra.launcher.address"),
    ],
)  # fmt: skip
def test_settings_of_a_cluster_have_their_types(kind, given, words, monkeypatch):
    monkeypatch.setattr(clusters, "find_spec", lambda name: True)
    with pytest.raises(ConfigError, match=words):
        kind(**given).checked()


def test_a_sweep_stays_out_of_the_folder_of_a_run():
    Path("s").mkdir()
    Path("s/results.json").write_text("{}")
    with pytest.raises(ConfigError, match="s holds a run; choose another folder"), launcher("seed=1,2"):
        pass


def test_a_plain_sweep_does_not_go_on_in_a_study():
    record("s", ["hparams=lr"], "finished", study=True)
    refused = pytest.raises(ConfigError, match="s holds a study; go on with its own")
    with launcher("seed=1,2", resume=True) as made, refused, made.opened():
        pass
    assert json.loads(Path("s/sweep.json").read_text())["study"] is True


def test_a_sweep_at_work_is_not_waited_for(tmp_path):
    one, two = Sweep(tmp_path, []), Sweep(tmp_path, [])
    one.claim()
    with pytest.raises(ConfigError, match="is being written by another sweep"):
        two.claim(lambda: pytest.fail("there is nothing to wait for"))
    one.release()
    two.claim()
    two.release()


def test_a_resumed_sweep_goes_on_with_all_that_it_has_left(monkeypatch):
    started: list[int] = []
    monkeypatch.setattr(
        PoolLauncher, "run", lambda self, sweep, source, backend=None: started.extend(t.number for t in source.left)
    )
    record("s", ["seed=0,1,2"], "finished", "interrupted", "failed")
    with launcher("seed=7,8", resume=True) as made:
        made.launch([["seed=7"], ["seed=8"]], 0)
    assert started == [1, 2, 3, 4]


def test_a_job_is_known_again_by_a_command_with_other_axes():
    """The example of docs/sweeps.md: unet and fpn with ce have run, whatever else their sweep ran over."""
    with launcher("loss=ce,dice", "seed=1") as made, made.opened() as sweep:
        first = [made.trial(sweep, n, [f"loss={loss}", "seed=1"]) for n, loss in enumerate(("ce", "dice"))]
        sweep.write()
    with launcher("loss=ce", "seed=1,2", "name=a,b", resume=True) as made, made.opened() as sweep:
        assert made.trial(sweep, 0, ["loss=ce", "seed=1"]).number == first[0].number
        assert next(t for t in sweep.trials if t.number == 0).axes == {"loss": "ce", "seed": "1"}
        other = made.trial(sweep, 1, ["loss=ce", "seed=2"])
        assert (other.number, other.axes) == (2, {"seed": "2", "loss": "ce"}), "a column of the table, a tag of W&B"
        named = [made.trial(sweep, 9, ["loss=ce", "seed=2", f"name={name}"]).number for name in "ab"]
        assert len(set(named)) == 2


def test_ctrl_c_is_answered_at_once_in_the_table():
    sweep = Sweep(Path("s"), [], trials=[Trial(0, [], {}, "0", state="running")])
    made = Table(sweep, SimpleNamespace(describe=str, slots=lambda: 1))
    made.live = SimpleNamespace()
    made.event(sweep.trials[0], "saves its state")
    assert str(made._note(sweep.trials[0])) == "saves its state"
    made.event(sweep.trials[0], "started")
    assert str(made._note(sweep.trials[0])) == ""


def test_large_numbers_of_a_front_are_whole():
    assert sweepers._named({"val/iou": "max", "parameters": "min"}, [0.28231, 16083.0]) == "val/iou 0.2823  parameters 16,083"
