"""The doctor at the door of training: who is refused and with which words, who is warned, and who does not pay twice."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from seglab import results
from seglab.config import load, plain
from seglab.config.identity import identity
from seglab.data.checks import gather, quick
from seglab.data.checks.findings import Finding
from seglab.data.checks.verdicts import Verdict
from seglab.engine import quick_check, resuming
from seglab.engine.keys import check_top
from seglab.errors import ConfigError, DataError

FOLDER = ("data=folder", "data.batch_size=4", "data.num_workers=0", "model=tiny", "trainer.max_epochs=1", "trainer.accelerator=cpu",
          "trainer.precision=32-true", "logger=none", "pictures=0", "test=false")  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    """Twelve pairs for train and four for val; one image of train has 255, void, all over its mask."""
    rng = np.random.default_rng(0)
    for n in range(16):
        image, mask = rng.integers(0, 200, (32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
        mask[n : n + 8, 4:20] = 1
        if n == 3:
            mask[:] = 255
        for kind, array in (("images", image), ("masks", mask)):
            folder = tmp_path / "set" / ("train" if n < 12 else "val") / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / f"{'abcdefghijklmnop'[n]}.png")
    return tmp_path / "set"


def scrambled(path):
    """Pixels that cannot be decoded behind a sound header."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)


def given(root, *overrides):
    return (*FOLDER, f"data.root={root}", "data.mean=[0.5,0.5,0.5]", "data.std=[0.25,0.25,0.25]", *overrides)


@pytest.fixture
def said(caplog):
    """The lines of seglab's log above info."""
    caplog.set_level(logging.INFO, "seglab")
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_damaged_image_ends_the_run_before_it_begins(root, train, tmp_path):
    scrambled(root / "val/images/n.png")
    with pytest.raises(DataError) as error:
        train(*given(root), tiny=False)
    assert str(error.value) == (
        "1 image cannot be decoded: val/images/n.png (the file is truncated or damaged). -> repair the files, or remove them "
        "with their partners (python -m seglab.check shows it; check=off trains nevertheless)"
    )
    record = results.read_results(tmp_path / "run")
    assert (record["status"], record["error"]) == ("failed", str(error.value))
    assert not (tmp_path / "run/checkpoints").exists()


def test_whoever_insists_trains(root, train):
    scrambled(root / "val/images/n.png")
    with pytest.raises(DataError, match=r"n\.png cannot be read"):  # of the reader, when it comes to that image
        train(*given(root, "check=off"), tiny=False)


def test_a_sound_set_is_trained_on_without_a_word_and_its_second_run_reads_nothing(root, train, said, monkeypatch):
    assert train(*given(root), tiny=False)["status"] == "finished"
    assert [line for line in said() if "->" in line] == []
    monkeypatch.setattr(gather, "look_at", lambda *_: pytest.fail("looked at again"))
    assert train(*given(root, "seed=1"), tiny=False, folder="again")["status"] == "finished"


def test_warnings_are_lines_of_the_log(root, said):
    for n, path in enumerate(sorted((root / "train/images").iterdir())[:2]):
        Image.fromarray(np.full((32, 32, 3), 90 + n, np.uint8)).save(path)
    checked(root)
    assert said() == [
        "2 images show one colour only: train/images/a.png, train/images/b.png. -> look at them; remove them with their masks "
        "if they are mistakes"
    ]


def checked(root, *overrides):
    from seglab.engine import assemble

    config = plain(load(list(given(root, *overrides))))
    quick_check.quick_check(config, assemble.source(config))


def found(monkeypatch, *findings, looked=64, total=701):
    monkeypatch.setattr(quick, "look_over", lambda *_: Verdict(findings, looked, total))


def test_what_a_sample_shows_is_said_to_be_of_a_sample(monkeypatch, said):
    found(monkeypatch, Finding("error", "a", "Bad.", (), {}, "data.classes=[a,'b c']"), Finding("error", "b", "Worse."),
          Finding("warning", "c", "Odd."), Finding("info", "d", "Fine."))  # fmt: skip
    with pytest.raises(DataError) as error:
        quick_check.quick_check({"check": "quick", "data": {}}, None)
    assert said() == ["of 64 of 701 images looked at: Odd."]
    assert str(error.value) == (
        "of 64 of 701 images looked at: Bad. -> \"data.classes=[a,'b c']\" (python -m seglab.check shows it and 1 error more; "
        "check=off trains nevertheless)"
    )


def test_a_doctor_that_fails_harms_no_training(monkeypatch, said):
    monkeypatch.setattr(quick, "look_over", lambda *_: 1 / 0)
    quick_check.quick_check({"check": "quick", "data": {}}, None)
    [line] = said()
    assert line == "the data could not be checked (ZeroDivisionError: division by zero); training goes on"


@pytest.mark.parametrize(("setting", "rank"), [("off", 0), ("quick", 1)])
def test_neither_check_off_nor_another_process_looks(monkeypatch, setting, rank):
    monkeypatch.setattr(quick, "look_over", lambda *_: pytest.fail("looked"))
    monkeypatch.setattr(quick_check, "global_rank", lambda: rank)
    quick_check.quick_check({"check": setting, "data": {}}, None)


def test_a_resumed_run_does_not_look_again(root, train, tmp_path, monkeypatch):
    train(*given(root), tiny=False)
    monkeypatch.setattr(quick, "look_over", lambda *_: pytest.fail("looked"))
    assert train(*given(root, "trainer.max_epochs=2", "resume=auto"), tiny=False)["status"] == "finished"


def test_the_check_is_quick_or_off_and_off_is_a_word():
    assert plain(load(["check=off"]))["check"] == "off"
    assert plain(load([]))["check"] == "quick"
    for value, words in (("of", "Did you mean 'off'?"), ("Quick", "Did you mean 'quick'?"), ("full", "Known: off, quick."),
                         ("false", "In a YAML file write 'off' in quotes.")):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            check_top(plain(load([f"check={value}"])))
        assert str(error.value) == f"check is {value}; it must be quick or off. {words}"


def test_the_check_is_no_part_of_what_a_run_is():
    config = plain(load([]))
    older = {key: value for key, value in config.items() if key != "check"}
    assert identity(config, {}) == identity({**config, "check": "off"}, {}) == identity(older, {})
    assert check_top(older)["check"] == "quick"


@pytest.mark.parametrize(("before", "after"), [(None, "quick"), (None, "off"), ("quick", "off"), ("off", "quick")])
def test_a_run_goes_on_whatever_the_check(tmp_path, caplog, before, after):
    caplog.set_level(logging.INFO, "seglab")
    config = plain(load([]))
    old = {key: value for key, value in config.items() if key != "check"} | ({"check": before} if before else {})
    saved = SimpleNamespace(config=old, path=tmp_path / "checkpoints/last.ckpt")
    resuming.check_same_settings(saved, {**config, "check": after})
    assert [record.getMessage() for record in caplog.records] == (
        [] if (before, after) == (None, "quick") else [f"resumed with check {before} -> {after}"]
    )


@pytest.mark.slow
def test_as_a_command_it_leaves_with_1_and_one_sentence(root, tmp_path):
    import subprocess
    import sys

    scrambled(root / "train/masks/c.png")
    command = [sys.executable, "-m", "seglab.train", *given(root, f"hydra.run.dir={tmp_path / 'run'}")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if "Error" in line]) == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert json.loads((tmp_path / "run/results.json").read_text())["status"] == "failed"
