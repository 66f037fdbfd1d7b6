"""Rare-class sampling does what it is for: at equal steps the rare class is found, by the verdict of compare."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location("benchmark_sampling", ROOT / "benchmarks" / "sampling.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.slow
def test_a_class_of_a_twentieth_of_a_percent_is_found_when_it_is_aimed_at(tmp_path):
    assert benchmark.draw(tmp_path / "scenes") == pytest.approx(0.0005, rel=0.05)
    benchmark.study(tmp_path / "scenes", tmp_path / "runs", seeds=3, epochs=40)
    asked = [sys.executable, "-m", "seglab.compare", str(tmp_path / "runs"), "--json", "--baseline=null"]
    found = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    mark = found["verdicts"]["sampling={mark: 0.5}"]["classes"][2]
    assert (mark["class"], mark["word"]) == ("mark", "better")
    assert mark["low"] > 0.2
    for path in (tmp_path / "runs").glob("*/results.json"):
        found = json.loads(path.read_text())
        steps, aimed = found["ledger"]["samples"], found["ledger"]["per_class"]["mark"]["aimed"]
        asked_for = 0.5 if any("mark" in one for one in found["overrides"]) else 0
        assert abs(aimed / steps - asked_for) < 0.01
