import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.errors import DataError
from seglab.types import Spec
from seglab.viz.legend import rows, shorten
from seglab.viz.panel import SMALL, TILE, panel, save

DATA = Path(os.environ.get("SEGLAB_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))


def example(height, width, channels=3, k=3, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 200, (height, width, channels)).astype(dtype)
    truth, pred = rng.integers(0, k, (2, height, width))
    return image, truth, pred, Spec(tuple(f"class {i}" for i in range(k)), channels=channels)


@pytest.mark.parametrize(
    ("height", "width", "channels", "k"),
    [
        (64, 64, 1, 2), (256, 256, 3, 3), (360, 480, 4, 11), (1024, 2048, 3, 19), (1, 1, 3, 2), (2, 900, 3, 2),
        (900, 2, 7, 3), (97, 131, 2, 40), (255, 257, 3, 150),
    ],
)  # fmt: skip
def test_any_size_gives_a_panel_of_sane_size(height, width, channels, k):
    out = panel(*example(height, width, channels, k), title=f"image of {height}x{width}")
    assert out.dtype == np.uint8
    assert out.shape[2] == 3
    assert 4 * 104 <= out.shape[1] <= 4 * (TILE + 40)
    assert out.shape[0] <= TILE + 40 + 20 * (k + 8)
    assert (out[:8] == 255).all(), "white margins on every side"
    assert (out[-8:] == 255).all()
    assert (out[:, :8] == 255).all()
    assert (out[:, -8:] == 255).all()


def test_small_images_are_magnified_by_a_whole_factor_without_smoothing():
    image = np.zeros((60, 64, 3), np.uint8)
    image[::2] = (10, 200, 30)
    mask = np.zeros((60, 64), int)
    out = panel(image, mask, mask, Spec(("background", "x")))
    hits = (out == (10, 200, 30)).all(2)
    row = int(np.flatnonzero(hits.any(1))[0])
    assert hits[row].sum() == 3 * SMALL, "image and the two overlays of bare background"
    assert hits.any(1)[row : row + 240].reshape(30, 8).tolist() == [[True] * 4 + [False] * 4] * 30


def test_the_legend_shows_each_class_colour():
    image, truth, pred, spec = example(64, 64, k=40)
    out = panel(image, truth, pred, spec)
    below = out[64 * 4 + 60 :]
    colors = {tuple(int(v) for v in c) for c in np.unique(below.reshape(-1, 3), axis=0)}
    assert set(spec.colors) <= colors
    many = Spec(tuple(f"c{i}" for i in range(100)))
    one = np.full((64, 64), 7)
    assert panel(image, one, one, many).shape[0] < out.shape[0], "of 100 classes only the one in the picture is listed"


def test_an_unknown_id_warns_in_picture_and_legend():
    image, truth, pred, spec = example(64, 64)
    pred[5, 5] = 99
    below = panel(image, truth, pred, spec)[-40:]
    assert (below == (255, 0, 255)).all(2).any()


def test_titles_and_names_of_any_length_and_script():
    image, truth, pred, _ = example(40, 40)
    spec = Spec(("x" * 500, "Straße\nführt", "猫"))
    short, long = (panel(image, truth, pred, spec, title=t) for t in ("a", "wide title " * 200))
    assert short.shape == long.shape
    assert (short != long).any()
    assert (long[:, -18:] == 255).all()


def test_shorten():
    assert shorten("car", 100, 12) == "car"
    cut = shorten("a very long class name", 60, 12)
    assert cut.endswith("…")
    assert cut[:3] == "a v"
    assert shorten("anything", 0, 12) == "…"
    assert shorten("Straße ù 猫\n\tx", 500, 12) == "Strasse u ?  x"


def test_rows_stay_within_the_width():
    placed = rows([(f"name {i}", (0, 0, 0)) for i in range(23)], 300)
    assert sum(map(len, placed)) == 23
    assert len(placed) > 1
    assert len({x for row in placed for x, _, _ in row}) == len(placed[0]), "columns are aligned"
    assert max(x for row in placed for x, _, _ in row) < 300
    assert rows([], 300) == []


def test_float_image_multilabel_and_ignored():
    rng = np.random.default_rng(0)
    spec = Spec(("a", "b"), "multilabel", channels=7)
    truth, pred = rng.integers(0, 2, (2, 70, 50, 2))
    truth[:10] = 255
    assert panel(rng.random((70, 50, 7), np.float32), truth, pred, spec, "multilabel").shape[2] == 3


def test_inputs_are_left_alone_and_output_is_stable():
    image, truth, pred, spec = example(300, 200)
    kept = image.copy(), truth.copy(), pred.copy()
    assert (panel(image, truth, pred, spec, "t") == panel(image, truth, pred, spec, "t")).all()
    for now, before in zip((image, truth, pred), kept, strict=True):
        assert (now == before).all()


@pytest.mark.parametrize("size", [64, 1500])
def test_sizes_that_differ_are_an_error(size):
    image, truth, pred, spec = example(size, size)
    with pytest.raises(DataError, match="does not fit"):
        panel(image, truth[:-1], pred[:-1], spec)
    with pytest.raises(DataError, match="does not fit"):
        panel(image, truth, pred[:-1], spec)


def test_save_writes_whole_files(tmp_path):
    image = example(20, 30)[0]
    for name in ("a.png", "b.JPG", "c.jpeg"):
        save(tmp_path / name, image)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == image).all()
    assert Image.open(tmp_path / "b.JPG").size == (30, 20)
    save(str(tmp_path / "grey.png"), image[..., 0])
    with pytest.raises(DataError, match=r"\.png"):
        save(tmp_path / "d.gif", image)
    with pytest.raises(TypeError):
        save(tmp_path / "a.png", np.zeros((4, 4, 9), np.complex64))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.JPG", "c.jpeg", "grey.png"], "nothing half-made stays"
    assert (np.asarray(Image.open(tmp_path / "a.png")) == image).all(), "a failed write leaves the old file"


@pytest.mark.slow
def test_camvid_panel():
    folder = DATA / "camvid" / "test"
    if not folder.is_dir():
        pytest.skip(f"no CamVid at {folder}")
    path = sorted((folder / "images").iterdir())[0]
    image = np.asarray(Image.open(path))
    truth = np.asarray(Image.open(next((folder / "masks").glob(f"{path.stem}*"))))
    spec = Spec(tuple(f"class {i}" for i in range(11)), ignore_index=11)
    out = panel(image, truth, np.where(truth == 11, 0, truth), spec, path.stem)
    assert out.shape[1] == 4 * 480 + 3 * 12 + 40
    assert not (out == (232, 52, 58)).all(2)[:-60].any(), "a perfect prediction shows no error, void or not"
