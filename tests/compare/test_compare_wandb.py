"""compare --wandb: one run of job type `compare` with the tables, in the project that was named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from compare_folders import counts, make, sweep

from seglab.compare.__main__ import run
from seglab.compare.answer import compare
from seglab.compare.tracking import classes, groups, summary, track, verdicts
from seglab.errors import ConfigError


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    for key in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DATA_DIR"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A stand-in for wandb; what it was told."""
    told = SimpleNamespace(init=None, tables={}, summary={}, ended=None)

    class Run:
        dir, url = str(tmp_path / "wandb" / "offline-run-1-x" / "files"), None
        summary = told.summary

        def __enter__(self):
            return self

        def __exit__(self, kind, *_):
            told.ended = int(kind is not None)

        def log(self, tables):
            assert told.ended is None
            told.tables |= tables

    module = ModuleType("wandb")

    def init(**settings):
        told.init = settings
        return Run()

    module.init, module.Settings = init, lambda **settings: settings
    module.Table = lambda columns, data: [dict(zip(columns, row, strict=True)) for row in data]
    module.errors = SimpleNamespace(Error=type("Error", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "wandb", module)
    told.module = module
    return told


@pytest.mark.parametrize(("word", "project"), [("--wandb", "seglab"), ("--wandb=my project", "my project")])
def test_one_run_of_job_type_compare_in_the_project(fake, tmp_path, monkeypatch, capsys, word, project):
    monkeypatch.chdir(tmp_path)
    run([word, str(sweep(tmp_path / "runs"))])  # the folder is no value of --wandb
    assert (fake.init["project"], fake.init["job_type"], fake.init["mode"]) == (project, "compare", "offline")
    assert fake.init["name"] == "loss=dice+ce vs loss=ce"
    assert set(fake.tables) == {"compare/groups", "compare/verdicts", "compare/classes"}
    assert (fake.summary["best"], fake.summary["baseline"], fake.summary["images"]) == ("loss=dice+ce", "loss=dice+ce", 20)
    assert not set(fake.summary) & set(fake.tables)  # one would take the other's place
    assert fake.ended == 0
    out, err = capsys.readouterr()
    assert "is better than" in out
    place = "wandb/offline-run-1-x"
    assert err.splitlines() == [f"W&B: {place}, project {project}; upload with: wandb sync {place}"]


def test_other_programs_read_what_they_read_without_it(fake, tmp_path, capsys):
    folder = str(sweep(tmp_path))
    run([folder, "--json"])
    alone = capsys.readouterr().out
    run([folder, "--json", "--wandb"])
    assert capsys.readouterr().out == alone
    assert json.loads(alone)


def test_with_a_key_it_goes_on_line(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    track(compare([str(sweep(tmp_path))]), "seglab")
    assert fake.init["mode"] == "online"


def test_a_refusal_is_one_sentence(fake, tmp_path):
    def refuse(**_):
        raise fake.module.errors.Error("no such\nentity")

    fake.module.init = refuse
    with pytest.raises(ConfigError, match=r"refused \(no such entity\)"):
        track(compare([str(sweep(tmp_path))]), "seglab")


@pytest.mark.parametrize("project", ["", " ", "a/b", "a#b", "x" * 129, "a\nb"])
def test_a_wrong_project_is_told_before_anything_is_read(fake, tmp_path, project):
    with pytest.raises(ConfigError, match=r"^--wandb='.*' is no name of a W&B project; give 1 to 128 characters"):
        run([f"--wandb={project}", str(tmp_path / "absent")])
    assert fake.init is None


def test_the_tables_say_what_the_comparison_says(tmp_path):
    found = compare([str(sweep(tmp_path))])
    (columns, rows), base = groups(found), found.rows[0]
    first = dict(zip(columns, rows[0], strict=True))
    assert first == {
        "group": base.name, "loss": "dice+ce", "n": 3, "test mIoU": base.test, "±95 %": base.half, "low": base.test - base.half,
        "high": base.test + base.half, "val/iou": base.val, "params": 28355.0, "images/s": 40.0, "seconds": 12.0, "best": True,
    }  # fmt: skip
    columns, rows = verdicts(found)
    [told] = [dict(zip(columns, row, strict=True)) for row in rows]
    verdict = found.verdicts["loss=ce"][0]
    assert (told["group"], told["verdict"], told["difference"]) == ("loss=ce", "worse", verdict.difference)
    assert told["in words"].startswith("loss=dice+ce is better than loss=ce by")
    columns, rows = classes(found)
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (row.name, name, value) for row in found.rows for name, value in zip(found.classes, row.classes, strict=True)
    ]
    judged = [row[columns.index("verdict")] for row in rows]
    assert judged == ["baseline"] * 3 + [v.word for v in found.verdicts["loss=ce"][1:]]
    words = summary(found)
    assert sum(words[f"verdicts/{word}"] for word in ("better", "worse", "equivalent", "unclear")) == 1


def test_a_single_group_has_no_verdicts_and_what_is_unknown_is_empty(fake, tmp_path):
    make(tmp_path / "0", counts(images=1), speed={"train_images_per_s": None}, seconds=None)
    track(compare([str(tmp_path)]), "seglab")
    assert set(fake.tables) == {"compare/groups", "compare/classes"}
    [row] = fake.tables["compare/groups"]
    assert (row["images/s"], row["seconds"], row["±95 %"]) == (None, None, None)


def test_names_that_a_terminal_would_obey_are_spelled_out(fake, tmp_path):
    for n, loss in enumerate(("ce", "di\u202ece")):
        make(tmp_path / str(n), counts(seed=n, classes=2), loss=loss, seed=n, names=["a", "b\x1b[2J"])
    track(compare([str(tmp_path)]), "seglab")
    told = [str(cell) for table in fake.tables.values() for row in table for item in row.items() for cell in item]
    told += [fake.init["name"], str(fake.summary["best"])]
    assert not [text for text in told if not text.isprintable()]
    assert any("di\\u202ece" in text for text in told)
    assert any("b\\x1b" in text for text in told)


@pytest.mark.slow
def test_w_and_bs_own_tool_reads_it(tmp_path):
    from wandb_log import NO_LEET, records, summary, table

    if NO_LEET:
        pytest.skip(NO_LEET)
    sweep(tmp_path / "runs")
    done = subprocess.run(
        [sys.executable, "-m", "seglab.compare", "runs", "--wandb=mine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    assert done.stderr == f"W&B: wandb/{folder.name}, project mine; upload with: wandb sync wandb/{folder.name}\n"
    told, kept = summary(folder), records(folder)
    assert (told["project"], told["state"], told["exit_code"]) == ("mine", "finished", 0)
    assert (told["summary"]["best"], told["summary"]["runs"], told["summary"]["verdicts/worse"]) == ("loss=dice+ce", 6, 1)
    assert next(r["run"] for r in kept if r["type"] == "run")["job_type"] == "compare"
    columns, rows = table(folder, told["summary"]["compare/groups"])
    assert [row[columns.index("loss")] for row in rows] == ["dice+ce", "ce"]
    staged = [c["local_path"] for r in kept if r["type"] == "artifact" for c in r["artifact"]["manifest"]["contents"]]
    assert len(staged) == 3
    assert all(Path(path).is_file() and path.startswith(str(folder)) for path in staged)
