"""Axes: Hydra's override syntax becomes them, their values become overrides again, and mistakes are told."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from seglab.config import load
from seglab.config.composing import composed, conf_dir
from seglab.errors import ConfigError
from seglab.sweep.plan import Plan
from seglab.sweep.space import Choice, Number, grid, size

sweepers = pytest.importorskip("hydra_plugins.seglab.sweepers")


def parsed(*overrides: str):
    return sweepers.split(OverridesParser.create().parse_overrides(list(overrides)))


def axis(override: str) -> Choice | Number:
    [found], fixed = parsed(override)
    assert fixed == []
    return found


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=tag(log, interval(1e-4, 1e-2))", Number("optimizer.lr", 1e-4, 1e-2, log=True)),
        ("x=interval(1,10)", Number("x", 1.0, 10.0)),
        ("x=float(interval(1,10))", Number("x", 1.0, 10.0)),
        ("x=int(interval(1,10))", Number("x", 1, 10, step=1, integer=True)),
        ("x=tag(log, int(interval(1,100)))", Number("x", 1, 100, log=True, integer=True)),
        ("x=int(tag(log, interval(1,100)))", Number("x", 1, 100, log=True, integer=True)),
        ("data.batch_size=range(4,17,4)", Number("data.batch_size", 4, 16, step=4, integer=True)),
        ("x=range(4)", Number("x", 0, 3, step=1, integer=True)),
        ("x=range(0,1,0.25)", Number("x", 0.0, 0.75, step=0.25)),
        ("x=shuffle(range(4))", Number("x", 0, 3, step=1, integer=True)),
        ("x=sort(range(4),reverse=true)", Number("x", 0, 3, step=1, integer=True)),
        ("x=tag(log, range(1,9))", Number("x", 1, 8, log=True, step=1, integer=True)),
        ("loss=ce,0.3*dice+0.7*ce", Choice("loss", ("ce", "0.3*dice+0.7*ce"))),
        ("loss=choice(ce,dice+ce)", Choice("loss", ("ce", "dice+ce"))),
        ("+x=1e-4,1e-3", Choice("+x", ("0.0001", "0.001"))),
        ("x=[1,2],[3,4]", Choice("x", ("[1,2]", "[3,4]"))),
        ("x={a:1},{a:2}", Choice("x", ("{a:1}", "{a:2}"))),
        ("x='a b','c,d'", Choice("x", ("'a b'", "'c,d'"))),
        ("x=true,null", Choice("x", ("True", "null"))),
        ("x=sort(3,1,2)", Choice("x", ("1", "2", "3"))),
        ("x=str(1,2)", Choice("x", ("'1'", "'2'"))),
        ("x=1,1,2", Choice("x", ("1", "2"))),
    ],
)
def test_every_syntax(override, expected):
    found = axis(override)
    if override.startswith("x=str"):
        assert found.texts in (("'1'", "'2'"), ("1", "2"))  # as Hydra's own sweeper would write it
    else:
        assert found == expected


def test_shuffled_choices_are_the_same_axis():
    assert set(axis("x=shuffle(a,b,c)").texts) == {"a", "b", "c"}


def test_the_command_line_comes_after_the_files():
    axes, fixed = parsed(
        "optimizer.lr=interval(1,2)", "loss=ce,dice", "hparams=lr", "optimizer.lr=0.1", "loss=focal,ce", "~mix"
    )
    assert axes == [Choice("loss", ("focal", "ce"))]
    assert fixed == ["hparams=lr", "optimizer.lr=0.1", "~mix"]


@pytest.mark.parametrize(
    "made",
    [
        Choice("x", ("'a b'", "[1,2]", "{a:1}", "null", "0.3*dice+0.7*ce")), Number("x", 1e-5, 1e-1, log=True),
        Number("x", 1 / 3, 2 / 3), Number("x", 0.0, 0.9, step=0.1), Number("x", 4, 16, step=4, integer=True), Number("x", -1e-9, 1e9),
    ],
)  # fmt: skip
def test_values_are_read_back_as_they_were_written(made):
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        value = study.ask({"x": made.distribution()}).params["x"]
        text = made.text(value)
        [back] = OverridesParser.create().parse_overrides([f"x={text}"])
        if isinstance(made, Choice):
            assert back.get_value_element_as_str() == text
        else:
            assert back.value() == pytest.approx(value, rel=1e-3, abs=1e-9)
            assert made.low <= back.value() <= made.high
            assert isinstance(back.value(), int) == made.integer
            assert len(text) < 12


def test_a_finite_space_is_counted_and_listed():
    axes = [Choice("a", ("x", "y")), Number("b", 4, 16, step=4, integer=True), Number("c", 0.0, 0.2, step=0.1)]
    points = list(grid(axes))
    assert size(axes) == len(points) == len(set(points)) == 2 * 4 * 3
    assert points[0] == ("x", 4, 0.0)
    assert [axes[2].text(v) for v in axes[2].values()] == ["0.0", "0.1", "0.2"]
    assert size([*axes, Number("d", 0, 1)]) is None


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("lr=tag(log, interval(0,1))", "lr: a logarithmic scale has no 0; begin above 0"),
        ("lr=interval(1,1)", "lr: the interval from 1 to 1 is empty"), ("lr=interval(2,1)", "give the smaller number first"),
        ("lr=interval(0,inf)", "two finite numbers"), ("lr=tag(lgo, interval(1,2))", "the tag 'lgo' says nothing here; the only one is log"),
        ("lr=tag(log, choice(1,2))", "log is for intervals and ranges"), ("lr=range(5,1)", "the range is empty"),
        ("lr=range(5,6)", "holds only 5"), ("lr=tag(log, range(1,9,2))", "a logarithmic scale has no steps"),
    ],
)  # fmt: skip
def test_bad_axes(override, says):
    with pytest.raises(ConfigError, match=says) as caught:
        axis(override)
    assert str(caught.value).startswith("lr: ")


def test_bad_spaces():
    with pytest.raises(ConfigError, match="nothing to search; give hparams=lr"):
        Plan([])
    with pytest.raises(ConfigError, match="cannot try every number between 1 and 2 for lr; give values, such as lr=A,B"):
        Plan([Choice("loss", ("ce",)), Number("lr", 1, 2)], sampler="grid")
    with pytest.raises(ConfigError, match=r"grid has 30 points.*give hydra\.sweeper\.trials=30"):
        Plan([Number("n", 1, 30, step=1, integer=True)], sampler="grid")


@pytest.mark.parametrize("name", sorted(p.stem for p in (conf_dir() / "hparams").glob("*.yaml")))
def test_shipped_spaces_compose(name):
    config = composed([f"hparams={name}"], hydra=True)
    assert config.hydra.sweeper._target_.endswith("OptunaSweeper")
    assert config.hydra.sweeper.seed == config.seed == 0
    axes, fixed = parsed(*(f"{key}={text}" for key, text in config.hydra.sweeper.params.items()))
    assert fixed == []
    settings = {k: config.hydra.sweeper[k] for k in ("trials", "sampler", "pruner", "objectives")}
    Plan(axes, **settings)
    for one in axes:
        for text in one.texts if isinstance(one, Choice) else (one.text(one.low), one.text(one.high)):
            load([f"{one.key}={text}"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"trials": "many"}, "'hydra.sweeper.trials' is 'many'; it must be a whole number"), ({"trial": 3}, "Did you mean 'trials'"),
        ({"objectives": ["val/iou"]}, "hydra.sweeper.objectives"), ({"parallel": 0.5}, "a whole number or null"),
    ],
)  # fmt: skip
def test_mistakes_in_the_sweepers_settings(settings, says):
    with pytest.raises(ConfigError, match=says):
        sweepers.OptunaSweeper(**settings).check()
