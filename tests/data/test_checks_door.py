"""`python -m seglab.check` as a user types it: what it prints, and what it leaves with."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from seglab import check
from seglab.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for number in range(12):
        image = rng.integers(0, 200, (24, 32, 3), np.uint8)
        mask = np.zeros((24, 32), np.uint8)
        mask[number : number + 6, 4:20] = 1
        for kind, array in (("images", image), ("masks", mask)):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / f"set/{kind}/{'abcdefghijkl'[number]}x.png")
    return tmp_path / "set"


def test_a_sound_folder_ends_with_a_good_verdict(root, capsys):
    check.run(["data=folder", f"data.root={root}"])
    said, complaints = capsys.readouterr()
    assert said.splitlines()[-1] == "set: Training would start: no error, no warning."
    assert "foreground" in said
    assert complaints == ""


def test_an_error_is_told_with_its_remedy_and_leaves_with_1(root, capsys):
    (root / "masks/ax.png").unlink()
    with pytest.raises(SystemExit) as left:
        check.run(["data=folder", f"data.root={root}"])
    assert left.value.code == 1
    first, remedy, *_, verdict = capsys.readouterr().out.splitlines()
    assert first == "error    1 image has no mask of the same stem: images/ax.png.  [no_mask]"
    assert remedy.strip() == "-> add the masks, or remove the images"
    assert verdict == "set: Training would not start: 1 error, 0 warnings."


def test_json_holds_all_of_it(root, capsys):
    (root / "masks/ax.png").unlink()
    with pytest.raises(SystemExit):
        check.run(["data=folder", f"data.root={root}", "--json"])
    report = json.loads(capsys.readouterr().out)
    [finding] = [one for one in report["findings"] if one["severity"] == "error"]
    assert finding == {
        "severity": "error", "kind": "no_mask", "text": "1 image has no mask of the same stem: images/ax.png.",
        "files": ["images/ax.png"], "evidence": {"files": 1}, "remedy": "add the masks, or remove the images",
    }  # fmt: skip
    assert (report["errors"], report["starts"]) == (1, False)
    assert sum(split["images"] for split in report["splits"].values()) == 11
    assert set(report["splits"]["train"]["classes"]) == {"background", "foreground"}


def test_names_are_shown_and_never_obeyed(root, capsys):
    strange = root / "images/[red]\x1b[31m\u202e.png"
    (root / "images/ax.png").rename(strange)
    with pytest.raises(SystemExit):
        check.run(["data=folder", f"data.root={root}"])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "images/[red]\\x1b[31m\\u202e.png" in said


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["data=folder"], ConfigError, "data.root is not set"),
        (["data=folder", "data.root=nowhere"], DataError, "data.root=nowhere does not exist"),
        (["data=folder", "data.rot=x"], ConfigError, "'root'"),
        (["data=folder", "data.root=.", "--jsn"], ConfigError, "Did you mean '--json'?"),
        (["data=folder", "data.root=.", "data.foreground=3"], ConfigError, "data.foreground"),
        (["data=nonsense"], ConfigError, "nonsense"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments, kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as error:
        check.run(arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_source_that_cannot_be_built_is_one_error(tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    with pytest.raises(SystemExit) as left:
        check.run(["data=coco", f"data.root={tmp_path}"])
    assert left.value.code == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("Training would not start: 1 error, 0 warnings.")


@pytest.mark.slow
def test_as_a_process_without_torch(root):
    """Exit codes, and that torch, which takes longer than the whole check, is not imported."""
    code = (
        "import sys; from seglab import check; check.main();"
        "print([m for m in ('torch', 'lightning') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, "data=folder", f"data.root={root}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    shutil.rmtree(root / "masks")
    done = subprocess.run(
        [sys.executable, "-m", "seglab.check", "data=folder", f"data.root={root}"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "")
    done = subprocess.run(
        [sys.executable, "-m", "seglab.check", "data=folder", "data.root=none"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
