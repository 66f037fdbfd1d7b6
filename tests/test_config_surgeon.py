"""python -m seglab.config: what differs between runs, what a key means; true to the files of conf/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from seglab.config import conf_dir, load, plain_door
from seglab.config.__main__ import __doc__ as usage
from seglab.config.__main__ import run
from seglab.config.comments import Entry, entries, header
from seglab.config.composing import merged_files
from seglab.config.differences import diff
from seglab.config.dotted import aligned, flat, written
from seglab.config.meaning import Composition, meanings
from seglab.config.places import source
from seglab.errors import ConfigError

# --- diff


def made(folder: Path, text: str, *more: str) -> str:
    """A run's folder with that configuration."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(text + "".join(more))
    return str(folder)


def test_only_what_differs_is_shown_one_line_a_key(tmp_path):
    one = made(
        tmp_path / "a", "loss: {dice: {weight: 1.0}}\noptimizer: {lr: 0.001, wd: 0}\nname: null\ncrop: [8, 8]\nlogger: {}\n"
    )
    other = made(
        tmp_path / "b",
        "loss: {ce: {weight: 1.0}}\noptimizer: {lr: 0.003, wd: 0.0}\nname: 'null'\ncrop: [8, 9]\nlogger: {mode: x y}\nresume: a\n",
    )
    assert diff(one, other).splitlines() == [
        "loss.dice.weight   1.0      -> -",
        "loss.ce.weight     -        -> 1.0",
        "optimizer.lr       0.001    -> 0.003",
        'name               null     -> "null"',
        "crop               [8, 8]   -> [8, 9]",
        "logger.mode        -        -> x y",
    ]


def test_interpolations_are_resolved_and_lists_of_settings_opened(tmp_path):
    one = made(
        tmp_path / "a",
        "deterministic: false\ntrainer: {d: '${deterministic}'}\nt: [{p: 1}, {p: 2}]\nx: '${nowhere}'\ny: {z: '${y}'}\n",
    )
    other = made(
        tmp_path / "b", "deterministic: true\ntrainer: {d: '${deterministic}'}\nt: [{p: 1}, {p: 3}]\nx: 1\ny: {z: 2}\n"
    )
    rows = [line.split() for line in diff(one, other).splitlines()]
    assert rows == [
        ["deterministic", "false", "->", "true"], ["trainer.d", "false", "->", "true"], ["t.1.p", "2", "->", "3"],
        ["x", "${nowhere}", "->", "1"], ["y.z", "${y}", "->", "2"],
    ]  # fmt: skip


def test_equal_runs_are_equal(tmp_path):
    text = "a: .nan\nb: {}\nresume: "
    assert diff(made(tmp_path / "a", text, "null"), made(tmp_path / "b", text, "auto")) == "the configurations are equal"
    (tmp_path / "c.yaml").write_text("a: .nan\nb: {}")
    assert diff(str(tmp_path / "a"), str(tmp_path / "c.yaml")) == "the configurations are equal"


@pytest.mark.parametrize("text", ["a: [", "- a", "\x00", "a: &x [*x]", "!!python/object/apply:os.system [touch canary]"])
def test_what_is_no_configuration_is_one_sentence(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = made(tmp_path / "a", text)
    for pair in ((bad, bad), ("nowhere", bad), (str(tmp_path), bad)):
        with pytest.raises(ConfigError) as error:
            diff(*pair)
        assert "\n" not in str(error.value)
    assert not Path("canary").exists()


@pytest.mark.parametrize("value", ["null", "true", "1", "1e3", "", "-", " a", "a\nb", "\x1b[31m", "[1]", "{}", "NaN"])
def test_text_that_could_be_mistaken_is_quoted(value):
    assert written(value) == json.dumps(value)


@pytest.mark.parametrize("value", ["unet", "a b", "val/iou", "32-true", "é", "0.5*dice+ce", None, True, 3, 0.001, [1, None]])
def test_other_values_are_written_as_on_the_command_line(value):
    assert written(value) == (value if isinstance(value, str) else json.dumps(value))


def test_rows_wrap_on_a_terminal_only(monkeypatch):
    rows = [("a", "one two three four five six seven"), ("bc", "x")]
    assert aligned(rows) == "a    one two three four five six seven\nbc   x"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "26")
    assert aligned(rows) == "a    one two three four\n     five six seven\nbc   x"


# --- comments


TEXT = """\
# The file.
# More of it.
first: 1     # one
             # and more of it
plain: 'a # b'   # in quotes: no
bare: a#b
# above
# it
both: [1, "x"]   # behind
block: |
  not: a key  # no
  # no

nested:      # a group
  inner: 1   # deep
    # far from any key
  apostrophe: don't   # it's
list:
  - key: 1   # of a list
  - override /no: x

# after a gap
last: {a: 1}
"""


def test_comments_belong_to_their_keys():
    assert header(TEXT) == header("# @package _global_\n" + TEXT) == "The file."
    assert header("a: 1  # x") == header("") == ""
    assert entries(TEXT) == {
        "first": Entry(3, "one and more of it"), "plain": Entry(5, "in quotes: no"), "bare": Entry(6, ""),
        "both": Entry(9, "above it behind"), "block": Entry(10, ""), "nested": Entry(14, "a group"),
        "nested.inner": Entry(15, "deep"), "nested.apostrophe": Entry(17, "far from any key it's"), "list": Entry(18, ""),
        "list.key": Entry(19, "of a list"), "last": Entry(23, "after a gap"),
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(conf_dir().rglob("*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_entries_are_the_keys_of_the_file(path):
    settings = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    for key, entry in entries(path.read_text()).items():
        if not key.startswith("defaults"):
            node = settings
            for part in key.split("."):
                node = node[part]
        assert key.split(".")[-1] in path.read_text().splitlines()[entry.line - 1]


# --- explain


@pytest.mark.parametrize(
    "overrides", [[], ["experiment=camvid_cpu"], ["experiment=nuclei_cpu", "loss=0.5*dice+focal", "seed=3"]]
)
def test_every_key_names_the_line_that_sets_it(overrides):
    config = load(overrides)
    composition = Composition(config, {}, merged_files(overrides), overrides)
    for key, value in flat(config).items():
        where = composition.place(key)[0]
        if where.startswith("conf/"):
            path, line = where.split(":")
            text = (conf_dir().parent / path).read_text().splitlines()[int(line) - 1]
            assert key.split(".")[-1] in text, (key, where)
            assert isinstance(value, bool | str | list | dict | None) or any(
                str(number) in text for number in (value, f"{value:.1e}".replace("e-0", "e-"))
            ), (key, value, where)
        else:
            assert where in ("the command line (seed=3)", "the expression loss=0.5*dice+focal"), key


def page(text: str) -> dict[str, str]:
    """The labelled lines of a page."""
    return {line[2:12].strip(): line[12:].strip() for line in text.splitlines() if line.startswith("  ")}


def test_a_key_has_value_meaning_and_place():
    text = meanings(["trainer.precision"], [])
    assert text.splitlines()[0] == "trainer.precision"
    found = page(text)
    assert found["value"] == "auto"
    assert "bf16-mixed where the hardware has bf16" in found["meaning"]
    assert found["set in"].startswith("conf/trainer/default.yaml:")


def test_the_last_file_sets_and_an_earlier_one_may_explain():
    found = meanings(["data.crop"], ["experiment=camvid_cpu"])
    assert "null" in found
    assert "conf/experiment/camvid_cpu.yaml:" in found
    assert "whole images" in found
    assert "conf/experiment/camvid_cpu.yaml:" in meanings(["optimizer.lr"], ["experiment=camvid_cpu"])  # in braces


def test_overrides_and_expressions_are_places_too():
    assert "the command line (optimizer.lr=2)" in meanings(["optimizer.lr"], ["optimizer.lr=2"])
    assert "the expression loss=0.5*dice+ce" in meanings(["loss.dice.weight"], ["loss=0.5*dice+ce"])
    assert "conf/loss/ce.yaml:" in meanings(["loss.ce.weight"], ["loss=0.5*dice+ce"])
    assert source("loss/2*dicex+dice").place("dice.weight") == ("", ""), "only a weight that is written"
    assert "false, from ${test}" in meanings(["mode"], ["test=false", "mode=${test}"])


def test_a_group_lists_its_choices_and_settings():
    text = meanings(["loss"], ["loss=tversky"])
    assert "  choice    tversky" in text
    for path in (conf_dir() / "loss").glob("*.yaml"):
        assert f"  {path.stem} " in text
        assert header(path.read_text()) in text
    assert "loss.tversky.alpha" in text
    assert "loss.dice" not in text
    assert "conf/experiment/nuclei_cpu.yaml:" in meanings(["model"], ["experiment=nuclei_cpu"]).split("choices")[0]
    assert "the command line" in meanings(["model"], ["model=fpn"]).split("choices")[0]


def test_without_a_key_the_groups_and_top_level_keys_are_listed():
    text = meanings([], ["model=fpn"])
    for group in (p.name for p in conf_dir().iterdir() if p.is_dir() and p.name not in ("loader", "hydra")):
        assert f"\n  {group} " in text
    config = load([])
    for key in config:
        assert f"\n  {key} " in text
    assert "  fpn " in text
    assert "weights, order and augmentation follow from it" in text


def test_an_argument_of_a_class_has_type_default_and_meaning():
    text = meanings(["trainer.val_check_interval"], [])
    assert "int | float" in text
    assert "the class's default is null" in text
    assert "How often to check the validation set." in text
    assert "+trainer.val_check_interval=VALUE, an argument of lightning.pytorch.Trainer" in text
    assert "[0.9, 0.999]" in meanings(["optimizer.betas"], [])


@pytest.mark.parametrize(
    ("key", "overrides", "words"),
    [
        ("sed", [], "Did you mean 'seed'?"), ("optimzer", [], "Did you mean 'optimizer'?"), ("lr", [], "Did you mean 'optimizer.lr'?"),
        ("trainer.precison", [], "Did you mean 'precision'?"), ("model.encodr", [], "Did you mean 'encoder'?"),
        ("model.decoder_dropout", [], "try +model.decoder_dropout=VALUE"), ("model.spec", [], "There is no key 'spec'"),
        ("model.width", [], "model=unet has no 'width'; model=mask_rcnn or tiny has: add model=NAME to the command."),
        ("seed.x", [], "it holds a single value"), ("data.sampling.rare", [], "'data.sampling={rare: ...}'"), ("hydra.run.dir", [], "--cfg hydra"), ("keep.every_step", [], "every_steps"),
        ("seed", ["modle=unet"], "Did you mean 'model'?"), ("seed", ["model=unett"], "Did you mean 'unet'?"), ("", [], "There is no key"),
        ("loss.ce", ["loss=bce"], "loss=ce has"), ("model.in_features", ["model._target_=os.system"], "not trusted"),
    ],
)  # fmt: skip
def test_unknown_keys_are_one_sentence(key, overrides, words):
    with pytest.raises(ConfigError) as error:
        meanings([key], overrides)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# --- the command


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, "diff RUN_A RUN_B"), (["--help"], 0, "explain KEY"), (["explian"], 1, "Did you mean 'explain'?"),
        (["diff", "a"], 1, "diff takes two runs"), (["explain", "sed"], 1, "ConfigError: There is no key 'sed'"),
    ],
)  # fmt: skip
def test_the_command_answers_with_an_exit_code(argv, code, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["config", *argv])
    with pytest.raises(SystemExit) as left:
        plain_door(run, usage)
    assert left.value.code == code
    assert words in "".join(capsys.readouterr())


def test_answers_come_without_torch(tmp_path):
    one = made(tmp_path / "a", "seed: 1\n")
    code = f"import sys; from seglab.config.__main__ import run; run(['diff', {one!r}, {one!r}]); run(['explain']); run(['explain', 'model', 'trainer.precision']); print([m for m in ('torch', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the configurations are equal\n")
    assert done.stdout.endswith("[]\n")
