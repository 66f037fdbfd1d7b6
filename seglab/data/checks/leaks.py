"""Images that train and test share: copies, near copies, neighbouring frames of one clip, groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seglab.data.checks.alike import Shown, alike, difference
from seglab.data.checks.clips import across
from seglab.data.checks.findings import Finding, named, said
from seglab.errors import DataError
from seglab.types import group_labels

_BITS, _DIFFERENCE, _ALIKE = 10, 8.0, 0.95  # near copies: differing bits of the hash, mean grey levels, correlation
_STRIP, _CHUNK, _MOST = 2048, 500, 100_000  # hashes and thumbnails compared at once, pairs looked at in all


def leaks(images: Sequence[Shown], by: str, group: str | None) -> list[Finding]:
    """All findings about images that are in two places. `by`: how the splits came about (folders, list or hash)."""
    clips, in_clips = across(images, by)
    return [*_copies(images), *_near(images, in_clips), *clips, *_groups(images, group)]


def _copies(images: Sequence[Shown]) -> list[Finding]:
    same = defaultdict[str, list[Shown]](list)
    for one in images:
        same[one.digest].append(one)
    copies = [some for some in same.values() if len(some) > 1]
    across = [some for some in copies if len({one.split for one in some}) > 1]
    within = [some for some in copies if len({one.split for one in some}) == 1]
    clash = [some for some in copies if len({one.look.label.digest for one in some if one.look.label}) > 1]
    found = []
    for severity, kind, some, words, remedy in (
        ("warning", "copies_across_splits", across, "the same pixels in two splits", "keep each in one split"),
        ("warning", "copies_with_other_masks", clash, "the same pixels, but other masks", "keep the right mask of each"),
        ("info", "copies", within, "the same pixels in one split", "remove all but one"),
    ):
        if some:
            files = tuple(one.look.image for group in some for one in group)
            pairs = [" = ".join(one.look.image for one in group[:3]) for group in some]
            text = f"{said(len(some), 'image is', 'images are')} there more than once, with {words}: {named(pairs)}."
            found.append(Finding(severity, kind, text, files, {"images": len(some)}, remedy))  # type: ignore[arg-type]
    return found


def _near(images: Sequence[Shown], in_clips: Mapping[str, str]) -> list[Finding]:
    """Copies that were saved anew, scaled or touched up: alike by hash, then looked at as 64 x 64 grey pixels."""
    pairs = []
    for some in _candidates(images):
        differ, like = difference(images, some), alike(images, some)
        for n in np.flatnonzero((differ < _DIFFERENCE) & (like > _ALIKE)):
            one, other = (images[k] for k in some[n])
            clip = in_clips.get(one.look.image)
            if one.digest != other.digest and (clip is None or clip != in_clips.get(other.look.image)):
                pairs.append((one.look.image, other.look.image, float(differ[n]), float(like[n])))
    if not pairs:
        return []
    files = tuple(dict.fromkeys(name for pair in pairs for name in pair[:2]))
    text = (
        f"Of images in two splits, {said(len(pairs), 'pair shows', 'pairs show')} nearly the same: "
        f"{named([f'{a} ~ {b}' for a, b, *_ in pairs])}."
    )
    evidence = {"pairs": [{"images": [a, b], "difference": d, "correlation": r} for a, b, d, r in pairs[:100]]}
    return [Finding("warning", "near_copies", text, files, evidence, "keep each in one split")]


def _candidates(images: Sequence[Shown]) -> Iterator[np.ndarray]:
    """Pairs from two splits whose hashes differ by few bits, N x 2, some at a time, so that memory stays bounded."""
    hashes = np.array([one.look.picture.dhash for one in images if one.look.picture], np.uint64)
    means = np.array([one.thumb.mean() for one in images])
    names = sorted({one.split for one in images})
    split = np.array([names.index(one.split) for one in images])
    left = _MOST
    for top in range(0, len(hashes), _STRIP):
        for aside in range(top, len(hashes), _STRIP):
            a, b = slice(top, top + _STRIP), slice(aside, aside + _STRIP)
            near = np.bitwise_count(hashes[a, None] ^ hashes[None, b]) <= _BITS
            near &= split[a, None] != split[None, b]
            near &= np.abs(means[a, None] - means[None, b]) < _DIFFERENCE  # or pixels differ by more
            found = np.argwhere(near) + np.array([top, aside])
            found = found[found[:, 0] < found[:, 1]][:left]
            left -= len(found)  # of a set of blank images all pairs would be looked at
            for start in range(0, len(found), _CHUNK):
                yield found[start : start + _CHUNK]


def _groups(images: Sequence[Shown], group: str | None) -> list[Finding]:
    if group is None or not images:
        return []
    try:
        labels = group_labels([one.look.id for one in images], group, "data.group")
    except DataError as error:
        return [Finding("error", "group", str(error), (), {}, "correct data.group")]
    where = defaultdict[str, dict[str, int]](dict)
    for label, one in zip(labels, images, strict=True):
        where[label][one.split] = where[label].get(one.split, 0) + 1
    several = {label: splits for label, splits in where.items() if len(splits) > 1}
    if not several:
        return []
    text = (
        f"Of {len(where)} groups (data.group), {said(len(several), 'is', 'are')} in more than one split: "
        f"{named(sorted(several))}."
    )
    files = tuple(one.look.image for label, one in zip(labels, images, strict=True) if label in several)
    return [Finding("warning", "group_across_splits", text, files, {"groups": several}, "keep each group in one split")]
