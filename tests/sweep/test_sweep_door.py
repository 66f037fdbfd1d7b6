"""`python -m seglab.sweep`: it lists sweeps, shows one, follows one to its end, and says what is wrong in a sentence."""

from __future__ import annotations

import fcntl
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from seglab.sweep import listing
from seglab.sweep.folder import Sweep
from seglab.sweep.trial import Trial


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def door(monkeypatch, capsys):
    """Enter the door with arguments; (exit code, stdout, stderr)."""

    def enter(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["seglab.sweep", *argv])
        code = 0
        try:
            runpy.run_module("seglab.sweep", run_name="__main__", alter_sys=False)
        except SystemExit as left:
            code = int(left.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return enter


def made(name: str, *states: str, age: float = 0, **more) -> Sweep:
    """A sweep on the disk."""
    trials = []
    for n, state in enumerate(states):
        one = Trial(n, [], {"loss": f"l{n}"}, str(n), state=state, epochs=15, monitor="val/iou")
        if state != "waiting":
            one.attempts, one.place, one.seconds, one.epoch, one.score = 1, "0", 41.0, 3, 0.5 + n / 100
        if state == "failed":
            one.error, one.score = "ConfigError: " + "word " * 60, None
        for key, value in more.items():
            setattr(one, key, value)
        trials.append(one)
    sweep = Sweep(Path(name), ["loss=l0,l1"], trials=trials, total=len(trials))
    sweep.write()
    os.utime(sweep.path / "sweep.json", times=(time.time() - age,) * 2)
    return sweep


def test_the_list_is_newest_first_and_says_what_each_does(door):
    made("multirun/d/old", "finished", "failed", age=100)
    made("multirun/d/cut", "finished", "running", "waiting", age=50)
    now = made("multirun/now", "running", "waiting")
    now.claim(lambda: None)
    code, out, err = door()
    now.release()
    assert (code, err) == (0, "")
    first, second, third = [line for line in out.splitlines() if "multirun" in line]
    assert "multirun/now" in first
    assert "running  0 of 2 done · 1 running · 1 waiting" in first
    assert "multirun/d/cut" in second
    assert "interrupted  1 of 3 done · 1 interrupted · 1 waiting" in second
    assert "multirun/d/old" in third
    assert "done  2 of 2 done · 1 failed" in third
    assert "val/iou 0.5000  loss=l0" in third


def test_the_list_names_at_most_twenty_and_a_broken_one_in_a_line(door):
    for n in range(25):
        made(f"multirun/d/{n:02}", "finished", age=n)
    Path("multirun/d/03/sweep.json").write_text("{\x1b[2J")
    code, out, _ = door()
    assert code == 0
    assert [n for n in range(25) if f"multirun/d/{n:02} " in out] == [n for n in range(20) if n != 3]
    assert [line for line in out.splitlines() if "multirun/d/03/sweep.json" in line and "is not a sweep's record" in line]
    assert "5 older ones" in out
    assert "\x1b" not in out


def test_a_sweep_is_shown_whole_where_there_is_no_terminal(door):
    sweep = made("s", "waiting", "finished", "finished", "failed", "pruned", "running", axes={"model.long.name": "x" * 120})
    code, out, _ = door("s")
    lines = [line for line in out.splitlines() if "x" * 120 in line]
    assert code == 0
    assert [line.split()[0] for line in lines] == ["3", "5", "2", "1", "4", "0"]  # failed, cut off, best first, pruned, waiting
    assert sweep.trials[3].error.strip() in lines[0]
    assert "interrupted" in lines[1]
    assert "3 of 6" not in out
    assert "4 of 6 done · 1 failed · 1 pruned · 1 interrupted · 1 waiting" in out
    assert "sweep.resume=s" in out


def test_a_running_trial_is_looked_at_in_its_own_folder():
    sweep = made("s", "running", age=30)
    sweep.folder(sweep.trials[0]).mkdir()
    (sweep.folder(sweep.trials[0]) / "metrics.csv").write_text("val/iou\n0.1\n0.9\n0.2\n0.3\n0.4\n")
    sweep.claim(lambda: None)
    before = (sweep.path / "sweep.json").read_bytes()
    one = listing.Seen(sweep.path).sweep.trials[0]
    assert (one.state, one.epoch, one.score) == ("running", 5, 0.9)
    assert one.seconds == pytest.approx(71, abs=2)
    sweep.release()
    assert listing.Seen(sweep.path).sweep.trials[0].state == "interrupted"
    assert (sweep.path / "sweep.json").read_bytes() == before


def test_looking_takes_no_lock_away():
    sweep = made("s", "running")
    assert not listing.held(sweep.path)  # never claimed: no lock, and none is made
    assert not (sweep.path / ".sweep.lock").exists()
    sweep.claim(lambda: None)
    for _ in range(3):
        assert listing.held(sweep.path)
    with (sweep.path / ".sweep.lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sweep.release()
    with (sweep.path / ".sweep.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # somebody else who looks, in the same moment
        assert not listing.held(sweep.path)
    other = made("s", "running")
    other.claim(lambda: pytest.fail("the lock was kept"), patience=0)
    other.release()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_watch_ends_with_the_sweep(terminal, tmp_path):
    sweep = made("s", "running", "waiting")
    sweep.claim(lambda: None)

    def go_on() -> None:
        time.sleep(0.15)
        for one in sweep.trials:
            one.state, one.attempts = "finished", 1
        sweep.write()
        sweep.release()

    thread = threading.Thread(target=go_on)
    thread.start()
    with (tmp_path / "out").open("w") as file:
        out = Console(file=file, force_terminal=terminal, width=80, height=20, highlight=False, color_system=None, _environ={})
        listing.watch(out, sweep.path, every=0.02)
    thread.join()
    text = (tmp_path / "out").read_text()
    assert "0 of 2 done · 1 running · 1 waiting" in text
    assert text.rstrip().endswith("2 of 2 done")
    if not terminal:
        assert text.count("1 running") == 1  # a line when something has changed, no more


def test_the_watch_of_an_ended_sweep_shows_it_once(door):
    made("multirun/d/t", "finished")
    code, out, _ = door("--watch")
    assert code == 0
    assert out.count("l0") == 2  # the command and the row
    assert door("multirun/d/t", "--watch")[1] == out


@pytest.mark.parametrize("height", [5, 12, 30])
def test_the_watch_fits_the_terminal(height):
    sweep = made("s", *["running"] * 200, axes={"a": "x" * 200})
    sweep.claim(lambda: None)
    out = Console(force_terminal=True, width=80, height=height)
    lines = out.render_lines(listing._picture(out, listing.Seen(sweep.path)), out.options)
    sweep.release()
    assert len(lines) <= max(height, 12)


def test_ctrl_c_ends_the_watch_without_a_traceback():
    sweep = made("s", "running")
    sweep.claim(lambda: None)
    process = subprocess.Popen(
        [sys.executable, "-m", "seglab.sweep", "s", "--watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "1 running" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    sweep.release()
    assert process.returncode == 130
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ((), "DataError: There is no multirun/ here; start a sweep"),
        (("--watch",), "There is no multirun/ here"),
        (("nowhere",), "nowhere is no folder"),
        ((".",), "holds no sweep"),
        (("a", "b"), "One sweep at a time"),
        (("--wach",), "There is no option '--wach' here. Did you mean '--watch'?"),
        (("-x",), "There is no option '-x' here."),
    ],
)
def test_mistakes_are_one_sentence(door, argv, sentence):
    code, out, err = door(*argv)
    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"score": "high"}, {"seconds": None}, {"axes": {"a": 1}}, {"epoch": "3"}, {"error": 5}, {"changed": [1]}, {"place": []}],
)
def test_a_record_with_a_wrong_value_is_a_sentence(door, wrong):
    sweep = made("s", "finished")
    record = json.loads((sweep.path / "sweep.json").read_text())
    record["trials"][0].update(wrong)
    (sweep.path / "sweep.json").write_text(json.dumps(record))
    code, out, err = door("s")
    assert (code, out) == (1, "")
    assert "s/sweep.json is not a sweep's record" in err
    assert len(err.splitlines()) == 1


def test_help(door):
    code, out, _ = door("-h")
    assert code == 0
    assert "python -m seglab.sweep [DIR] --watch" in out


def test_the_door_imports_no_torch():
    code = "import runpy, sys; sys.argv = ['x', '-h']\ntry: runpy.run_module('seglab.sweep', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'lightning', 'optuna', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.splitlines()[-1] == "[]"
