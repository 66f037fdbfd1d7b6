"""The pictures of a study: there where there is something to see, whole, and of what they say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_study import AXES, quick, run  # noqa: F401

from seglab.sweep import plots
from seglab.sweep.plan import Plan
from seglab.sweep.space import Number


def colors(path) -> set[tuple[int, ...]]:
    return {tuple(c) for c in np.asarray(Image.open(path)).reshape(-1, 3)[::1].tolist()}


@pytest.mark.slow
def test_a_study_is_drawn(tmp_path):
    study = run(tmp_path, Plan(AXES, trials=20, seed=3))
    assert plots.plots(study) == ["history.png", "importance.png"]
    seen = colors(tmp_path / "history.png")
    assert {plots._MARK, plots._LINE, plots._DOT, plots._PRUNED} <= seen
    assert {plots._LINE, plots._DOT} <= colors(tmp_path / "importance.png")
    shares = plots.importances(study)
    assert set(shares) == {"lr", "loss"}
    assert shares["lr"] > shares["loss"]
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.slow
def test_two_objectives_are_drawn_as_a_front(tmp_path):
    aims = {"val/iou": "max", "parameters": "min"}
    study = run(tmp_path, Plan(AXES, trials=12, sampler="nsga2", objectives=aims))
    assert plots.plots(study)[0] == "pareto.png"
    assert {plots._MARK, plots._LINE} <= colors(tmp_path / "pareto.png")


@pytest.mark.slow
def test_what_cannot_be_told_is_left_out(tmp_path):
    study = run(tmp_path, Plan(AXES, trials=1))
    assert plots.plots(study) == []
    assert plots.plots(run(tmp_path, Plan(AXES, trials=4))) == ["history.png"], "too few trials for an importance"
    alone = run(tmp_path / "alone", Plan((Number("lr", 1e-3, 1e-2),), trials=10))
    assert plots.plots(alone) == ["history.png"], "one axis"


@pytest.mark.parametrize("scores", [[0.5, 0.5], [0.0, 0.0], [1e-9, 2e-9], [-5.0, 1e6]])
def test_any_scores_can_be_drawn(scores):
    points = list(enumerate(scores))
    assert plots.history(points, [], "val/iou", True).size == (plots.WIDTH, plots.HEIGHT)
    plots.history(points, [(7, scores[0])], "a/name/that/is/long/" * 9, False)
    plots.pareto([(v, -v, n, n == 0) for n, v in points], ["val/iou", "seconds"], ["maximize", "minimize"])
    plots.importance({"key." * 40: 0.3, "x": 0.0}, "val/iou", 9)
