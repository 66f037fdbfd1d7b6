"""The door `python -m seglab.compare` on run folders made of numbers: groups, names, tables, verdicts, outputs."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from compare_folders import counts, make, sweep
from rich.console import Console

from seglab.compare.__main__ import run
from seglab.compare.answer import compare
from seglab.compare.showing import display
from seglab.compare.writing import to_csv, to_json, to_latex
from seglab.errors import ConfigError, DataError
from seglab.stats.scores import headline


def text(found, classes=False, width=None):
    """What is printed: to a terminal of a width, or to a pipe."""
    out = io.StringIO()
    display(
        Console(file=out, highlight=False, width=width, force_terminal=width is not None, color_system=None), found, classes
    )
    return out.getvalue()


def test_a_sweep_is_grouped_by_what_differs_and_judged(tmp_path):
    found = compare([str(sweep(tmp_path))])
    assert [(r.name, r.seeds, r.axes) for r in found.rows] == [
        ("loss=dice+ce", 3, {"loss": "dice+ce"}),
        ("loss=ce", 3, {"loss": "ce"}),
    ]
    assert (found.best, found.baseline, found.monitor) == ("loss=dice+ce", "loss=dice+ce", "val/iou")
    assert found.notes == []
    rows = [counts(20, quality=0.7, seed=s) for s in range(3)]
    assert found.rows[1].test == pytest.approx(np.mean([headline(r.sum(0), range(3)) for r in rows]))
    [verdict, *classes] = found.verdicts["loss=ce"]
    assert verdict.word == "worse"
    assert verdict.difference == pytest.approx(found.rows[1].test - found.rows[0].test)
    assert len(classes) == 3
    assert "loss=dice+ce is better than loss=ce by 0.1" in text(found)
    assert text(found, classes=True).count("class1") == 1


def test_other_seeds_of_one_setting_cannot_be_told_apart(tmp_path):
    found = compare([str(sweep(tmp_path, better=0.0))])
    assert found.verdicts["loss=ce"][0].word == "unclear"
    assert "Cannot tell whether loss=ce differs from loss=dice+ce" in text(found)
    assert "seeds a side" in text(found) or "too small" in text(found)


def test_what_only_concerns_watching_and_the_seed_make_no_group(tmp_path):
    for seed, more in enumerate(("", "logger: {}\n", "resume: x\n")):
        folder = make(tmp_path / str(seed), counts(seed=seed), seed=seed)
        config = folder / ".hydra" / "config.yaml"
        config.write_text(config.read_text().replace("name: null", f"name: run{seed}") + more)
    assert [row.seeds for row in compare([str(tmp_path)]).rows] == [3]


def test_names_use_the_fewest_keys_and_the_rest_is_said(tmp_path):
    for n, (loss, lr) in enumerate((("ce", 0.001), ("ce", 0.01), ("dice", 0.001))):
        make(tmp_path / str(n), counts(seed=n), loss=loss, lr=lr, overrides=[f"loss={loss}", f"optimizer.lr={lr}"])
    assert {row.name for row in compare([str(tmp_path)]).rows} == {"loss=ce lr=0.001", "loss=ce lr=0.01", "loss=dice lr=0.001"}
    both = tmp_path / "both"
    for n, (loss, lr) in enumerate((("ce", 0.001), ("dice", 0.01))):
        make(both / str(n), counts(seed=n), loss=loss, lr=lr)
    found = compare([str(both)])
    assert {row.name for row in found.rows} == {"loss=ce", "loss=dice"}
    assert "besides their names the groups differ in optimizer.lr (0.001, 0.01)" in found.notes


def test_a_setting_that_is_null_in_some_and_has_parts_in_others_is_named_whole(tmp_path):
    for n, given in enumerate(("null", "{mark: 0.5}", "{mark: 0.5, rare: 0.1}")):
        config = make(tmp_path / str(n), counts(seed=n)) / ".hydra" / "config.yaml"
        config.write_text(config.read_text() + f"data:\n  scale: 1.0\n  sampling: {given}\n")
    names = {row.name for row in compare([str(tmp_path)]).rows}
    assert names == {"sampling=null", "sampling={mark: 0.5}", "sampling={mark: 0.5, rare: 0.1}"}


def test_a_run_from_before_a_setting_was_there_is_one_with_its_inert_value(tmp_path):
    for n, lines in enumerate(
        ("", "  sampling: null\n  reduced_jpeg: false\n", "  sampling:\n    rare: 0.3\n  reduced_jpeg: false\n")
    ):
        config = make(tmp_path / str(n), counts(seed=n), seed=n) / ".hydra" / "config.yaml"
        config.write_text(config.read_text() + f"data:\n  scale: 1.0\n{lines}")
    found = {row.name: row.seeds for row in compare([str(tmp_path)]).rows}
    assert found == {"sampling=null": 2, "sampling={rare: 0.3}": 1}


def test_a_number_is_one_value_however_it_is_written(tmp_path):
    for n, lr in enumerate(("1", "1.0")):
        make(tmp_path / str(n), counts(seed=n), seed=n, lr=lr)
    assert [row.seeds for row in compare([str(tmp_path)]).rows] == [2]


def test_a_repeated_seed_counts_once(tmp_path):
    sweep(tmp_path)
    make(tmp_path / "again", counts(quality=0.7, seed=77), seed=0, val=0.5)
    found = compare([str(tmp_path)])
    assert [row.seeds for row in found.rows] == [3, 3]
    assert any(re.search(r"left out: .*0 repeats seed 0 of .*again", note) for note in found.notes)


def test_one_seed_a_side_judges_images_only_and_says_so(tmp_path):
    found = compare([str(sweep(tmp_path, seeds=1))])
    assert not found.verdicts["loss=ce"][0].seeds_judged
    assert any(note.startswith("one seed a side: only the noise of the test images") for note in found.notes)
    assert "the noise of training is not judged" in text(found)


def test_a_test_score_as_monitor_is_warned_of_and_a_loss_is_better_low(tmp_path):
    for n, loss in enumerate(("ce", "dice")):
        make(tmp_path / "a" / str(n), counts(seed=n), loss=loss, monitor="test/iou")
        make(tmp_path / "b" / str(n), counts(seed=n), loss=loss, monitor="val/loss", val=0.2 + 0.1 * n)
    assert any(
        note.startswith("warning: checkpoints were chosen by a test score") for note in compare([str(tmp_path / "a")]).notes
    )
    assert compare([str(tmp_path / "b")]).best == "loss=ce"
    mixed = compare([str(tmp_path)])
    assert (mixed.best, mixed.monitor) == (None, None)


def test_a_baseline_is_found_by_name_or_value(tmp_path):
    sweep(tmp_path)
    for asked in ("loss=ce", "ce"):
        assert compare([str(tmp_path)], baseline=asked).baseline == "loss=ce"
    with pytest.raises(ConfigError, match=r"There is no group 'dise\+ce'. Did you mean 'loss=dice\+ce'"):
        compare([str(tmp_path)], baseline="dise+ce")


def test_binary_runs_are_scored_by_their_foreground(tmp_path):
    for seed in range(2):
        make(tmp_path / str(seed), counts(classes=2, seed=seed), seed=seed, scored=[1])
    expected = np.mean([headline(counts(classes=2, seed=s).sum(0), [1]) for s in range(2)])
    assert compare([str(tmp_path)]).rows[0].test == pytest.approx(expected)


def test_folds_are_repetitions_and_the_groups_of_the_data_are_clusters(tmp_path):
    data = {"classes": ["class0", "class1", "class2"], "fingerprint": "f", "group": r"\d(?=\d$)", "whole": {"test": 24}}
    for n, loss in enumerate(("ce", "dice")):
        for fold in range(3):
            told = {**data, "counts": {"train": 10 + fold, "test": 24}, "fold": fold}
            run = make(tmp_path / f"{n}{fold}", counts(24, seed=10 * n + fold), seed=7, loss=loss, data=told)
            with (run / ".hydra" / "config.yaml").open("a") as file:
                file.write(f"data:\n  folds: 3\n  fold: {fold}\n")
    found = compare([str(tmp_path)])
    assert [(row.name, row.seeds) for row in found.rows] == [("loss=ce", 3), ("loss=dice", 3)]
    assert found.clusters == 3


def test_seeds_of_one_fold_are_no_repetitions_of_their_own(tmp_path):
    """Folds that differ while their seeds do not: fifteen runs say what five say."""
    for which, seeds in (("one", 1), ("three", 3)):
        for fold in range(5):
            for seed in range(seeds):
                told = {"classes": ["class0", "class1", "class2"], "fingerprint": "f", "whole": {"test": 24}, "fold": fold}
                run = make(tmp_path / which / f"{fold}{seed}", counts(24, quality=0.6 + 0.04 * fold), seed=seed, data=told)
                with (run / ".hydra" / "config.yaml").open("a") as file:
                    file.write(f"data:\n  folds: 5\n  fold: {fold}\n")
    one, three = (compare([str(tmp_path / which)]) for which in ("one", "three"))
    assert (one.rows[0].seeds, three.rows[0].seeds) == (5, 5)
    assert three.rows[0].half == pytest.approx(one.rows[0].half)
    assert three.rows[0].test == pytest.approx(one.rows[0].test)
    assert any(note.startswith("n counts folds") for note in three.notes)


def test_runs_that_name_other_groups_need_one_and_a_run_that_names_none_takes_theirs(tmp_path):
    data = {"classes": ["class0", "class1", "class2"], "fingerprint": "f", "whole": {"test": 24}}
    for n, (loss, group) in enumerate((("ce", r"\d(?=\d$)"), ("dice", None))):
        make(tmp_path / "a" / str(n), counts(24, seed=n), loss=loss, data={**data, "group": group})
    assert compare([str(tmp_path / "a")]).clusters == 3
    make(tmp_path / "a" / "2", counts(24, seed=5), loss="focal", data={**data, "group": r"\d$"})
    with pytest.raises(DataError, match="give --cluster=REGEX"):
        compare([str(tmp_path / "a")])
    assert compare([str(tmp_path / "a")], cluster=r"\d$").clusters == 10


def test_clusters_widen_and_must_fit(tmp_path):
    sweep(tmp_path, images=24)
    found = compare([str(tmp_path)], cluster=r"\d(?=\d$)")
    assert (found.images, found.clusters) == (24, 3)
    assert "24 test images in 3 clusters" in text(found)


def test_tables_keep_to_eighty_columns_and_pipes_get_whole_lines(tmp_path):
    for n, loss in enumerate(("ce", "dice", "dice+ce")):
        for seed in range(2):
            make(tmp_path / f"{n}{seed}", counts(seed=10 * n + seed), seed=seed, loss=loss, val=n / 10)
    found = compare([str(tmp_path)])
    assert max(map(len, text(found, True, width=80).splitlines())) <= 80
    assert "Against loss=dice+ce, on test (Holm's correction over 3 pairs)" in text(found)
    assert "over 2 pairs" in text(compare([str(tmp_path)], baseline="ce"))
    assert [line.split()[0] for line in text(found).splitlines()[1:5]] == ["loss", "dice+ce", "dice", "ce"]


def test_json_csv_and_latex_say_the_same(tmp_path):
    found = compare([str(sweep(tmp_path))])
    data = json.loads(to_json(found))
    assert data["rows"][0]["test"] == found.rows[0].test
    assert data["verdicts"]["loss=ce"]["mIoU"]["word"] == "worse"
    assert [v["class"] for v in data["verdicts"]["loss=ce"]["classes"]] == found.classes
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [line["group"] for line in lines] == [row.name for row in found.rows]
    assert float(lines[1]["verdict_difference"]) == found.verdicts["loss=ce"][0].difference
    assert r"\textbf{" + f"{found.rows[0].test:.4f}" in to_latex(found)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--jsn", "x"], "There is no option '--jsn' here. Did you mean '--json'?"),
        (["--json"], "Name the folders"),
        (["x", "--margin=much"], "--margin=much is no difference"),
        (["x", "--json", "--csv"], "two outputs"),
        (["x", "--sort=vall"], "Did you mean 'val'?"),
        (["x", "--baseline="], "--baseline needs a value"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        run(arguments)


def test_the_command_answers_without_torch(tmp_path):
    sweep(tmp_path)
    code = (
        "import sys; from seglab.compare.__main__ import run; run(sys.argv[1:]); "
        "print([m for m in ('torch', 'lightning', 'cv2', 'albumentations', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert done.stderr == ""
    done = subprocess.run([sys.executable, "-m", "seglab.compare", str(tmp_path / "no")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("DataError: There is no folder")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_five_hundred_runs_of_a_thousand_images_fit_into_memory(tmp_path):
    ids = [f"scene_{n // 10:03}_frame_{n:05}" for n in range(1000)]
    for n in range(500):
        make(tmp_path / str(n), counts(1000, 5, seed=n), seed=n % 5, lr=0.001 * (1 + n // 5), ids=ids)
    # Of /proc, not of getrusage: that begins with the memory of the process which forked this one.
    code = (
        "import sys; from pathlib import Path; from seglab.compare.__main__ import run; run(sys.argv[1:]); "
        "print(next(line.split()[1] for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "500 runs in 100 groups, 1000 test images" in done.stdout
    megabytes = int(done.stdout.splitlines()[-1]) / 1024
    assert megabytes < 500
