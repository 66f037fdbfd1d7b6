"""Only like is compared with like: the same classes, data, splits, test images and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seglab.compare.collecting import Run
from seglab.errors import DataError, visible
from seglab.stats.scores import headline
from seglab.types import group_labels

CLOSE = 1e-6  # of a score that was computed twice


def checked(runs: list[Run], intersect: bool) -> tuple[list[Run], list[int], list[str]]:
    """The runs with their images in one order, the classes that count for the mean, and lines on what was left out.

    Raises DataError where they cannot be compared; `intersect`: they are, on the images that all share.
    """
    _alike(runs, "other classes", "name the folders of runs with one list of classes", lambda r: r.classes, _classes)
    stated = [run for run in runs if run.definition]  # others are checked by their counts, below
    if stated:
        again = "evaluate their checkpoints with one seglab"
        _alike(stated, "other definitions of mIoU", again, lambda r: r.definition, lambda r: f"'{visible(str(r.definition))}'")
    remedy = "compare like with like, or give --intersect to use only the test images that all share"
    if not intersect:
        _alike(runs, "other test images", remedy, lambda r: sorted(r.ids), lambda r: f"{len(r.ids)} images")
        _alike(runs, "other splits", remedy, lambda r: sorted(r.split.items()), lambda r: str(r.split))
    runs, scored, notes = _scored(runs)
    if not runs:
        return runs, scored, notes
    total = max(len(run.ids) for run in runs)
    if any(run.ids != runs[0].ids for run in runs):
        _aligned(runs)
    if intersect:
        same = np.all([(_truth(run) == _truth(runs[0])).all(-1) for run in runs], 0)
        if not same.any():
            raise DataError("These runs have no test image with the same masks in common.")
        for run in runs:
            run.ids, run.counts = [i for i, s in zip(run.ids, same, strict=True) if s], run.counts[same]
        notes.append(f"compared on {same.sum()} of {total} test images, those with the same name and mask in all runs.")
    else:
        for run in runs[1:]:
            if len(wrong := np.flatnonzero((_truth(run) != _truth(runs[0])).any(-1))):
                raise DataError(
                    f"The mask of test image '{visible(run.ids[wrong[0]])}' is another in {run.name} than in {runs[0].name} "
                    f"(as are {len(wrong) - 1} more); {remedy}."
                )
        _alike(runs, "other data", remedy, lambda r: r.fingerprint, lambda r: f"fingerprint {visible(r.fingerprint)}")
    return runs, scored, notes


def _alike(runs: Sequence[Run], what: str, remedy: str, key: Callable[[Run], Any], say: Callable[[Run], str]) -> None:
    """DataError naming two runs whose keys differ, and how many are of each kind."""
    if all(key(run) == key(runs[0]) for run in runs[1:]):
        return
    keys = [repr(key(run)) for run in runs]
    (most, count), *_ = Counter(keys).most_common(1)
    one, other = keys.index(most), next(n for n, k in enumerate(keys) if k != most)
    raise DataError(
        f"{len(runs) - count} of {len(runs)} runs have {what}: {runs[other].name} ({say(runs[other])}), unlike "
        f"{runs[one].name} ({say(runs[one])}); {remedy}."
    )


def _classes(run: Run) -> str:
    few = ", ".join(run.classes[:6]) + (", ..." if len(run.classes) > 6 else "")
    return visible(few if len(few) < 100 else few[:100] + "...")


def _truth(run: Run) -> np.ndarray:
    return run.counts[..., 0].astype(np.int64) + run.counts[..., 2]


def _scored(runs: Sequence[Run]) -> tuple[list[Run], list[int], list[str]]:
    """The classes whose mean is test/iou (binary: the foreground), and the runs whose counts give the number they recorded."""
    every = list(range(len(runs[0].classes)))
    totals = [run.counts.sum(0, dtype=np.int64) for run in runs]

    def fits(scored: list[int]) -> list[bool]:
        found = [float(headline(total, scored)) for total in totals]
        return [abs(value - run.headline) < CLOSE for value, run in zip(found, runs, strict=True)]

    scored = max([every, [1]] if len(every) == 2 else [every], key=lambda scored: sum(fits(scored)))
    good = fits(scored)
    return (
        [run for run, fit in zip(runs, good, strict=True) if fit],
        scored,
        [
            f"left out: per_image.csv of {run.name} does not give the test/iou of results.json; score its checkpoint again."
            for run, fit in zip(runs, good, strict=True)
            if not fit
        ],
    )


def _aligned(runs: Sequence[Run]) -> None:
    """Each run's images in the order of the first run, without those that not all have."""
    for run in runs:
        if len(set(run.ids)) < len(run.ids):
            raise DataError(f"{run.name} has two test images of one name, so its images cannot be matched with other runs'.")
    places = [{image: n for n, image in enumerate(run.ids)} for run in runs]
    shared = [image for image in runs[0].ids if all(image in place for place in places)]
    if not shared:
        raise DataError(f"{runs[0].name} and the other runs have no test image in common.")
    for run, place in zip(runs, places, strict=True):
        run.ids, run.counts = shared, run.counts[[place[image] for image in shared]]


def clusters(ids: Sequence[str], pattern: str | None, named: Sequence[str] = ()) -> np.ndarray | None:
    """A label for each image: what a regular expression matches in its id, such as a clip's or a patient's name.

    Without a `pattern` that which the runs `named` as data.group; DataError where they named several.
    """
    if pattern is not None:
        return np.array(group_labels(ids, pattern, "--cluster"))
    if not named:
        return None
    if other := next((name for name in named if name != named[0]), None):
        raise DataError(
            f"The runs group images by data.group='{visible(named[0])}' and by '{visible(other)}'; give --cluster=REGEX."
        )
    return np.array(group_labels(ids, named[0], "data.group"))
