"""Fixtures of all tests: no network, one thread of maths, a tiny run."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGLAB_TEST_DATA", ROOT.parent / "shared" / "data"))

# Small enough for a second a run, large enough to learn something.
TINY = [
    "model=tiny", "data.size=48", "data.train=8", "data.val=4", "data.test=4", "data.batch_size=4", "data.num_workers=0",
    "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "logger=none", "pictures=1",
]  # fmt: skip

# Mask R-CNN as small as that: some seconds a run.
TINY_RCNN = [
    "model=mask_rcnn", "model.encoder=resnet18", "model.width=16", "model.regions=32", "model.proposals=60",
    "model.anchors=[8,16,32,64,128]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection to another machine is an error; tests marked `network` may open sockets."""
    if "network" in request.keywords:
        return
    real = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise OSError(f"the test suite works without network, but something connects to {address}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What seglab keeps between runs lies in a folder of the tests' own; matplotlib's list of fonts, slow to make, stays."""
    os.environ.setdefault("MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "matplotlib").expanduser()))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def first_process() -> Iterator[None]:
    """Lightning remembers the rank that a test gave it by RANK in the environment, and silences its loggers from then on."""
    yield
    for name in ("lightning.fabric.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero"):
        if name in sys.modules:
            sys.modules[name].rank_zero_only.rank = 0  # type: ignore[attr-defined]


@pytest.fixture
def data_dir() -> Callable[[str], Path]:
    """A folder of the real data beside the checkout; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"needs {DATA / name}, which is not here (set SEGLAB_TEST_DATA)")
        return DATA / name

    return find


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run the engine on overrides (after TINY) in tmp_path/run; its results.json, with "run" added."""

    def fit(*overrides: str, folder: str = "run", tiny: bool = True) -> dict[str, Any]:
        from seglab import results
        from seglab.config import load, plain
        from seglab.engine import fit as engine_fit

        given = [*(TINY if tiny else []), *overrides]
        choices = {o.split("=")[0]: o.split("=")[1] for o in given if o.split("=")[0] in ("model", "loss", "data")}
        engine_fit(plain(load(given)), tmp_path / folder, {"loss": "dice+ce", "data": "cells", **choices}, list(overrides))
        return {**results.read_results(tmp_path / folder), "run": tmp_path / folder}

    return fit


def pytest_addoption(parser: pytest.Parser) -> None:
    """--update-golden writes tests/golden/*.txt from this run."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/*.txt from this run")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, the system's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    with api.sync_playwright() as playwright:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=root)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """The page of the test's own fixture `report`; nothing may come on the console, and no address may be asked for."""
    page = browser.new_page(viewport={"width": 1200, "height": 800}, color_scheme="light")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert said == []
