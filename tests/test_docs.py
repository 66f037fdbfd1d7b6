"""What the documents say is true: commands compose, files exist, tables list what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from seglab.config import conf_dir, load

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
TEXTS = {
    p.relative_to(ROOT).as_posix(): p.read_text()
    for p in [ROOT / "README.md", *ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/*.md"), *conf_dir().rglob("*.yaml")]
}


def commands() -> list[tuple[str, str]]:
    """(file, overrides) of every training command in README, benchmarks and the headers of conf/."""
    found = []
    for name, text in TEXTS.items():
        text = re.sub(r"\\\n#? *", " ", text)
        found += [
            (name, m.strip())
            for m in re.findall(r"python -m seglab\.train((?: [^\s`#|]+)*)", text)
            if "=choice" not in m and "[group" not in m and "--config-dir" not in m  # of a package that the page describes
        ]
    return found


@pytest.mark.parametrize(
    ("name", "arguments"),
    [pytest.param(*one, marks=[pytest.mark.slow] if one[0].startswith(("docs/", "benchmarks/")) else []) for one in commands()],
)
def test_every_training_command_composes(name, arguments):
    overrides = [a for a in shlex.split(arguments) if "=" in a and not a.startswith("sweep.resume=")]  # the door's own
    overrides = [o for o in overrides if not re.search(r"=\w+\(", o)]  # a range, for a sweeper alone
    single = [re.sub(r",(?![^\[{]*[\]}]).*", "", o) for o in overrides]  # the first of a sweep's values
    load(single)


def test_the_groups_table_lists_what_there_is():
    for group in (
        "task",
        "model",
        "loss",
        "data",
        "augment",
        "mix",
        "instances",
        "metrics",
        "optimizer",
        "scheduler",
        "trainer",
        "logger",
        "experiment",
        "hparams",
        "hydra/launcher",
        "hydra/sweeper",
    ):
        row = re.search(rf"^\| `{group}` \| ([^|]*) \|", README, re.M)
        assert row, group
        listed = set(
            re.findall(
                r"[a-z0-9_]+",
                row[1].replace("and sums of them", "").replace("a preset of", "").replace("(without: every combination)", ""),
            )
        )
        assert listed == {p.stem for p in (conf_dir() / group).glob("*.yaml")}, group


def test_the_readme_is_short_and_its_picture_is_there():
    assert len(README.splitlines()) < 250
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_no_hosts_or_machine_paths():
    named = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "constraints.txt")
    for name in (*named, *(path.relative_to(ROOT) for path in ROOT.glob("docs/*.md"))):
        text = (ROOT / name).read_text()
        assert not re.search(r"pyp" + r"i\.org|python" + r"hosted|/wor" + r"k/|/ho" + r"me/|/ro" + r"ot/", text), name
