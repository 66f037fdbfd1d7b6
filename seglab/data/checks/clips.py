"""Clips in two splits: names that count on, whose neighbours look alike, also where two splits meet.

Whether neighbours look alike is judged against pairs of the same data set drawn by chance (all street scenes are somewhat
alike), and against images farther apart in the same clip (names may be sorted by kind).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seglab.data.checks.alike import Shown, alike, by_chance
from seglab.data.checks.findings import Finding, many, named

_VIDEO, _NEIGHBOURS, _STILL = 0.8, 0.7, 0.9  # ranks among pairs drawn by chance; correlation of frames of one place
_CLEAR, _ALWAYS, _FAR, _LISTED = 3.0, 2.5, 4, 3  # standard errors of ranks and signs; frames apart; clips told one by one
_NUMBERED = re.compile(r"^(.*?)(\d+)(\D*)$", re.S)
GROUP = "^(.+?)[0-9]+[^0-9]*$"  # the name before its last number


@dataclass(frozen=True)
class Clip:
    """Images whose names count on, in order: their numbers, how alike neighbours are, and the ranks of that among chance."""

    prefix: str
    numbers: list[int]
    images: list[Shown]
    like: np.ndarray
    rank: np.ndarray
    falls: np.ndarray  # by how much frames that are farther apart are less alike

    @property
    def still(self) -> bool:
        """Whether the camera hardly moves."""
        return bool(self.like.mean() > _STILL)

    @property
    def meets(self) -> list[int]:
        """Places n where n and n + 1 are in two splits and look alike."""
        pairs = enumerate(zip(self.images, self.images[1:], strict=False))
        return [n for n, (a, b) in pairs if a.split != b.split and self.rank[n] > _NEIGHBOURS]


def across(images: Sequence[Shown], by: str) -> tuple[list[Finding], dict[str, str]]:
    """Warnings of clips in several splits; and {image: clip} of these. `by`: how the splits came about."""
    members = defaultdict[tuple[str, str], list[tuple[int, int]]](list)
    for place, one in enumerate(images):
        if match := _NUMBERED.match(one.look.id):
            members[match[1], match[3]].append((int(match[2]), place))
    several = {key: sorted(some) for key, some in members.items() if len({images[n].split for _, n in some}) > 1}
    if not several:
        return [], {}
    chance = by_chance(images)
    clips = [_clip(key[0], some, images, chance) for key, some in sorted(several.items())]
    # Of short clips none is clear by itself; all together they are.
    near = _near(np.concatenate([one.rank for one in clips]))
    passing = _passing(np.concatenate([one.falls for one in clips]))
    found = [
        one
        for one in clips
        if one.rank.mean() > _VIDEO
        and (near or _near(one.rank))
        and (passing or one.still or _passing(one.falls))
        and one.meets
    ]
    told = {image.look.image: one.prefix for one in found for image in one.images}
    return ([_one(clip, by) for clip in found] if len(found) <= _LISTED else [_all(found, by)]), told


def _clip(prefix: str, some: list[tuple[int, int]], images: Sequence[Shown], chance: np.ndarray) -> Clip:
    places = np.array([place for _, place in some])
    like = alike(images, np.stack([places[:-1], places[1:]], 1))
    far = min(_FAR, len(places) // 2)
    falls = like[: len(places) - far] - alike(images, np.stack([places[:-far], places[far:]], 1)) if far > 1 else like[:0]
    rank = np.searchsorted(chance, like) / len(chance)
    return Clip(prefix, [number for number, _ in some], [images[n] for n in places], like, rank, falls)


def _near(rank: np.ndarray) -> bool:
    """Whether these ranks are higher than chance would have them."""
    return bool((rank.mean() - 0.5) * (12 * len(rank)) ** 0.5 > _CLEAR)


def _passing(falls: np.ndarray) -> bool:
    """Whether frames farther apart are less alike nearly everywhere, and not only where one kind of image ends."""
    return bool(np.sign(falls).sum() > _ALWAYS * len(falls) ** 0.5)


def _one(clip: Clip, by: str) -> Finding:
    n = min(clip.meets, key=lambda n: clip.numbers[n + 1] - clip.numbers[n])
    a, b, gap = clip.images[n].look.image, clip.images[n + 1].look.image, clip.numbers[n + 1] - clip.numbers[n]
    splits = [one.split for one in clip.images]
    count = {split: splits.count(split) for split in dict.fromkeys(splits)}
    shares = " and ".join(f"{number} in {split}" for split, number in sorted(count.items(), key=lambda item: -item[1]))
    text = (
        f"Frames of one clip, '{clip.prefix}', are in {len(count)} splits ({shares}) and look alike where they meet: {a} and "
        f"{b}, {gap} apart (correlation {clip.like[n]:.2f})."
    )
    evidence = {
        "clip": clip.prefix,
        "frames": count,
        "meetings": len(clip.meets),
        "gap": gap,
        "correlation": float(clip.like[n]),
        "meet": [a, b],
    }
    return Finding("warning", "clip_across_splits", text, _files([clip]), evidence, _remedy([clip], by))


def _all(clips: list[Clip], by: str) -> Finding:
    like = float(np.mean([clip.like[n] for clip in clips for n in clip.meets]))
    text = (
        f"Frames of {many(len(clips), 'clip')} are in more than one split and look alike where they meet (mean correlation "
        f"{like:.2f}): {named([clip.prefix for clip in clips])}."
    )
    evidence = {
        "clips": [clip.prefix for clip in clips],
        "meetings": sum(len(clip.meets) for clip in clips),
        "correlation": like,
    }
    return Finding("warning", "clip_across_splits", text, _files(clips), evidence, _remedy(clips, by))


def _files(clips: list[Clip]) -> tuple[str, ...]:
    return tuple(one.look.image for clip in clips for one in clip.images if one.split != "train")


def _remedy(clips: list[Clip], by: str) -> str:
    if by == "hash" and all(clip.prefix for clip in clips):
        return f"data.group='{GROUP}'"
    return "keep all frames of a clip in one split"
