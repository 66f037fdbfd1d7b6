"""The notebooks are clean as committed, and what they compute, executed in a temporary folder, is what they say."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from seglab.config import compose, load, plain
from seglab.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = ("quickstart", "your_data", "compare_runs")
MACHINE = re.compile(r"/wor" + r"k/|/ho" + r"me/|/ro" + r"ot/|/tm" + r"p/|https?:" + r"//")


def cells(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]


def test_every_notebook_is_tested():
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_committed_without_traces_of_a_run_or_a_machine(name):
    text = (FOLDER / f"{name}.ipynb").read_text()
    metadata = json.loads(text)["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
    assert "version" not in metadata["language_info"]
    assert not MACHINE.search(text)
    for cell in cells(name):
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        assert cell["metadata"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short_and_introduced(name):
    found = cells(name)
    assert found[0]["cell_type"] == "markdown"
    for before, cell in pairwise(found):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown", cell["id"]
            assert 1 <= len(cell["source"]) <= 12, cell["id"]


def test_compose_gives_what_the_door_gives():
    overrides = ["model=fpn", "loss=0.5*dice+ce", "trainer.max_epochs=3", "mix=cutmix"]
    config, choices = compose(overrides)
    assert config == plain(load(overrides))
    assert (choices["model"], choices["loss"], choices["mix"], choices["data"]) == ("fpn", "0.5*dice+ce", "cutmix", "cells")
    assert not any(group.startswith("hydra") for group in choices)
    assert "experiment" not in choices  # none was chosen


def test_compose_refuses_in_one_sentence():
    with pytest.raises(ConfigError, match="max_epochs"):
        compose(["trainer.max_epoch=3"])


Execute = Callable[[str, str], Any]


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Execute]:
    """Execute a notebook in tmp_path; what an expression of its variables is at the end (JSON)."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    from ipykernel.kernelspec import install

    # A kernel of this interpreter, before any "python3" that the machine or its user may have; nothing of their settings.
    install(prefix=str(tmp_path), kernel_name="python3")
    with tempfile.TemporaryDirectory() as short:  # the path of a socket may have a hundred characters
        here = {"JUPYTER_PATH": str(tmp_path / "share" / "jupyter"), "JUPYTER_RUNTIME_DIR": short, "IPYTHONDIR": short}
        paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        for key, value in {**here, "JUPYTER_CONFIG_DIR": short, "PYTHONPATH": os.pathsep.join(paths)}.items():
            monkeypatch.setenv(key, value)

        def run(name: str, expression: str) -> Any:
            book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
            words = f"import json, sys; print(json.dumps([sys.executable, {expression}]))"
            book.cells.append(nbformat.v4.new_code_cell(words))
            nbclient.NotebookClient(
                book, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
            ).execute()
            outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
            assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
            assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
            interpreter, value = json.loads("".join(o["text"] for o in book.cells[-1].outputs))
            assert Path(interpreter) == Path(sys.executable)
            return value

        yield run


@pytest.mark.slow
def test_quickstart_learns_predicts_and_repeats_its_score(execute, tmp_path):
    found = execute(
        "quickstart",
        "{'score': found['metrics']['test/iou'], 'again': score_again, 'floor': floor, 'best': score,"
        " 'curve': curve['val/iou'].tolist(), 'losses': curve['train/loss'].tolist(),"
        " 'shapes': [plt.imread(m).shape for m in masks], 'new': len(list((work / 'predicted' / 'overlays').glob('*.png')))}",
    )
    assert 0.25 < found["floor"] < 0.33  # mostly background
    assert found["floor"] + 0.1 < found["score"] < 1
    assert found["again"] == found["score"]
    assert found["best"] == pytest.approx(max(found["curve"]), abs=1e-6)
    assert found["losses"][-1] < 0.6 * found["losses"][0]
    assert found["shapes"] == [[96, 192]] * 3
    assert found["new"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"share"}  # the notebook leaves nothing where it runs


@pytest.mark.slow
def test_your_data_are_checked_learnt_and_their_errors_found(execute):
    found = execute(
        "your_data",
        "{'score': score, 'classes': list(data.spec.classes), 'test': len(names), 'matrix': matrix.tolist(),"
        " 'dark': (brightness < 50).tolist(), 'ious': ious.tolist(), 'worst': worst.tolist(),"
        " 'answers': len(list((work / 'predicted' / 'masks').glob('*.png')))}",
    )
    assert found["classes"] == ["background", "leaf", "ripe", "unripe"]
    assert 0.6 < found["score"] < 1  # background everywhere would give less than 0.2
    assert found["answers"] == 100
    matrix = found["matrix"]
    assert sum(map(sum, matrix)) == found["test"] * 96 * 96
    assert matrix[3][1] > matrix[3][2]  # unripe is taken for leaf, not for ripe
    dark = [iou for iou, night in zip(found["ious"], found["dark"], strict=True) if night]
    day = [iou for iou, night in zip(found["ious"], found["dark"], strict=True) if not night]
    assert sum(dark) / len(dark) < sum(day) / len(day)
    assert [found["ious"][n] for n in found["worst"]] == sorted(found["ious"])[:3]


@pytest.mark.slow
def test_compare_ends_with_a_verdict_and_its_interval(execute):
    found = execute(
        "compare_runs",
        "{'rows': [[r.name, r.seeds, r.test, r.half] for r in found.rows], 'baseline': found.baseline, 'other': other,"
        " 'verdict': [verdict.word, verdict.low, verdict.difference, verdict.high, verdict.detectable],"
        " 'all': len(verdicts), 'notes': found.notes, 'images': found.images}",
    )
    assert sorted(row[:2] for row in found["rows"]) == [["loss=ce", 3], ["loss=dice", 3]]
    assert {found["baseline"], found["other"]} == {"loss=ce", "loss=dice"}
    assert (found["all"], found["images"], found["notes"]) == (4, 24, [])
    test = {name: mean for name, _, mean, _ in found["rows"]}
    word, low, difference, high, detectable = found["verdict"]
    assert all(0.34 < mean < 1 for mean in test.values())  # a third is what background everywhere gets at most
    assert difference == pytest.approx(test[found["other"]] - test[found["baseline"]])
    assert low < difference < high
    assert 0 < detectable < 1
    assert word == "unclear"  # the notebook's text explains this verdict
