"""The house keeps its shape: who imports whom, no drawers, no huge files, no torch where answers must be quick."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "seglab"
ROOMS = ("data", "models", "losses", "metrics", "tasks", "viz", "stats")
DOORS = ("train", "evaluate", "predict", "check", "convert", "tune", "compare", "report", "export")
BASE = {"types", "errors", "processes"}
ALLOWED = {
    "__init__": set(), "__main__": {"__init__"}, "types": {"errors"}, "errors": set(), "config": {"errors", "config", "build", "processes"},
    "results": BASE | {"stats", "viz"}, "build": BASE | {"config"}, "checkpoint": BASE | {"config", "torchfile"},
    "torchfile": {"errors"}, "processes": set(), "weights_and_biases": {"errors"}, "sweep": BASE | {"stats", "viz", "results", "sweep", "__init__"},
    "rle": {"types"}, **{room: BASE | {room} for room in ROOMS}, "models": BASE | {"models", "torchfile"},
    **{room: BASE | {room, "rle"} for room in ("data", "metrics", "tasks", "viz")},
    **{door: BASE | {"engine", "config", "checkpoint", "results", "data", "stats", "viz"} for door in DOORS},
    "check": BASE | {"build", "config", "data", "report"},
    "compare": BASE | {"compare", "config", "report", "results", "stats", "sweep", "weights_and_biases"},
    "report": BASE | {"report", "compare", "results", "stats", "viz", "sweep"},
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The names of seglab's modules and rooms that a file imports, at the top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{a.name}" for a in node.names} if node.module == "seglab" else {node.module}
    return {n.split(".")[1] for n in names if n.startswith("seglab.")} - {"__version__"}


def room(path: Path) -> str:
    """The first part below seglab/ without suffix."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_keep_to_the_rooms(path):
    if room(path) == "engine":
        assert not imports(path) & {*DOORS, "sweep"}
    elif room(path) in ("sweep", "report") and path.name == "__main__.py":  # a door
        assert imports(path) <= ALLOWED[room(path)] | {"config"}
    else:
        extra = imports(path) - ALLOWED[room(path)]
        assert not extra, f"{room(path)} may not import {extra}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_rooms_not_drawers(path):
    assert path.stem not in ("utils", "helpers", "common", "manager")
    assert len(path.read_text().splitlines()) <= 260


def test_hydra_stays_in_config_build_and_doors():
    for path in FILES:
        text = path.read_text()
        assert "hydra.utils.instantiate" not in text or path.name == "build.py"
        if room(path) in ROOMS:
            assert "omegaconf" not in text.lower()
            assert "import hydra" not in text


def test_one_file_loads_what_torch_wrote():
    loads = re.compile(r"torch\.load\(|(jit|hub|package|pickle|joblib|np|numpy)\.load\w*\(|allow_pickle|weights_only=False")
    found = {str(p.relative_to(PACKAGE)): loads.findall(p.read_text()) for p in FILES if loads.search(p.read_text())}
    assert list(found) == ["torchfile.py"]
    assert (PACKAGE / "torchfile.py").read_text().count("torch.load(") == 1
    assert "weights_only=True" in (PACKAGE / "torchfile.py").read_text()


QUICK = (
    "seglab",
    "seglab.config",
    "seglab.train",
    "seglab.check",
    "seglab.convert",
    "seglab.results",
    "seglab.types",
    "seglab.sweep.pool",
    "seglab.compare.__main__",
    "seglab.report.__main__",
    "seglab.report.run_page",
    "seglab.compare.tracking",
    "seglab.stats.verdicts",
    "hydra_plugins.seglab.launchers",
)


def test_quick_modules_import_no_torch():
    heavy = "sorted({'torch', 'lightning', 'albumentations', 'cv2'} & set(sys.modules))"
    code = f"import importlib, sys\nfor name in {QUICK}: importlib.import_module(name); print(name, *{heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(QUICK)  # the first that brings one of them names it
