"""The report's examples: which images are chosen, and that what was written is what was scored."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seglab import results
from seglab.engine.examples import EACH, choose
from seglab.metrics.definitions import class_scores


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_no_image_is_chosen_twice_and_each_kind_keeps_its_rank(scores):
    chosen = choose(np.array(scores))
    everything = [n for kind in chosen.values() for n in kind]
    assert len(everything) == len(set(everything)) == min(len(scores), 3 * EACH)
    values = {kind: [scores[n] for n in found] for kind, found in chosen.items()}
    left = [scores[n] for n in range(len(scores)) if n not in everything]
    if values["best"]:
        assert max(values["worst"]) <= min([*values["median"], *left, *values["best"]])
        assert min(values["best"]) >= max([*values["median"], *left, *values["worst"]])
    if left:
        below = sum(score <= min(values["median"]) for score in left)
        assert abs(below - len(left) / 2) <= 1 or len(set(scores)) < len(scores)


def test_a_run_leaves_the_pictures_and_scores_of_its_test_images(train, tmp_path):
    run = tmp_path / "run"
    train("data.test=4", "pictures=1", f"hydra.run.dir={run}")
    found = json.loads((run / "examples" / "examples.json").read_text())
    assert found["split"] == "test"
    assert [image["kind"] for image in found["images"]] == ["worst", "worst", "best", "best"]
    names, _, counts = results.read_per_image(run / "per_image.csv")
    ious = np.nanmean(class_scores(counts[..., 0], counts[..., 1], counts[..., 2])["iou"], 1)
    for image in found["images"]:
        assert image["iou"] == ious[names.index(image["id"])]
        for file in image["files"].values():
            assert Image.open(run / "examples" / file).size == (image["width"], image["height"])
    told = results.read_results(run)
    assert told["passport"]["value"] == told["metrics"]["test/iou"]
    matrix = np.array([row.split(",")[1:] for row in (run / "confusion.csv").read_text().split()[1:]], dtype=int)
    assert np.array_equal(matrix[:-1].diagonal(), counts[..., 0].sum(0))
    assert np.array_equal(matrix[:-1].sum(0) - matrix[:-1].diagonal(), counts[..., 1].sum(0))
    sure = [row.split(",") for row in (run / "confidence.csv").read_text().split()[1:]]
    decoded = np.array([row[2:] for row in sure if row[0] == "(decoded)"], dtype=int)
    assert decoded.sum(0).tolist() == [matrix.sum(), matrix.diagonal().sum()]


def test_a_checkpoint_of_folds_and_parts_is_evaluated_on_other_images_and_an_old_one_as_fully(train, tmp_path):
    from PIL import Image as Picture

    from seglab import checkpoint
    from seglab.data.cells import Cells
    from seglab.engine import evaluate

    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for n in range(count):
            sample = Cells(48, 9, 9, 9).load(split, n)
            for part, array in (("images", sample["image"]), ("masks", sample["mask"])):
                for root in ("a", "b") if split == "test" else ("a",):
                    folder = tmp_path / root / split / part
                    folder.mkdir(parents=True, exist_ok=True)
                    Picture.fromarray(array).save(folder / f"{'p' if root == 'a' else 'q'}{n}_{split}.png")
    told = ["data=folder", "data.classes=[background,round,spindle]", "~data.size", "~data.train", "~data.val", "~data.test"]
    told = [one for one in told if not one.startswith("~")]
    settings = ["model=tiny", *told, f"data.root={tmp_path / 'a'}", "data.folds=3", "data.limit=4", "data.group=^p[0-9]"]
    settings += ["data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none"]
    quoted = [f"data.group='{one.partition('=')[2]}'" if one.startswith("data.group") else one for one in settings]
    run = train(*quoted, "pictures=0", "metrics.calibration=null", tiny=False)
    assert not (run["run"] / "confidence.csv").exists()
    saved = checkpoint.load(run["run"] / "checkpoints" / "best.ckpt")
    del saved.config["metrics"]["calibration"]  # as checkpoints from before there was one
    again = evaluate(saved, saved.config, "test", tmp_path / "again", [])
    assert again["test/iou"] == run["metrics"]["test/iou"]
    assert (tmp_path / "again" / "confidence.csv").exists()
    assert (tmp_path / "again" / "examples" / "examples.json").exists()
    other = {**saved.config, "data": {**saved.config["data"], "root": str(tmp_path / "b")}}
    assert evaluate(saved, other, "test", tmp_path / "other", [f"data.root={tmp_path / 'b'}"])["test/iou"] == again["test/iou"]
