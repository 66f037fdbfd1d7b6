"""The vocabulary every room shares. Shapes: B batch, C channels, K classes, H height, W width.

Sample  what a dataset yields   image (H W C, uint8 or float32 in 0..1), mask (H W, integer ids or ignore_index;
        multilabel: H W K of 0, 1 or ignore_index), id, size (H, W); optional instances (H W ids, 0 = none, or H W L where
        objects overlap: each is whole in one of L layers), with labels and crowd (N) where the ids are 1..N
Batch   what a task receives    image B C H W (uint8 or float32), mask B H W int64 (multilabel: B K H W),
        index B int64 (the image's position in its split); where objects are asked for: instances B L H W int32 (ids, 0 =
        none), labels B N int64 (the class of id n+1; -1 = no such object), crowd B N bool
Output  what a network gives    logits B K H W; or, while it trains, Output with those of its auxiliary heads;
        or MaskQueries, of a network that names masks instead of pixels; or Detections (in training the parts of its own
        loss), of one that finds objects. Loss.of and Task.gives say which one is meant.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypedDict, cast

import numpy as np

from seglab.errors import DataError, nearest, visible

if TYPE_CHECKING:  # the doors that answer at once read this file too
    from torch import Tensor

Mode = Literal["binary", "multiclass", "multilabel"]
Color = tuple[int, int, int]
Phase = Literal["train", "val", "test"]

# What is counted of a training sample for each class: its pixels, whether it shows the class (summed: images), its objects,
# whether it was aimed at the class by data.sampling.
SEEN = ("pixels", "images", "objects", "aimed")

# Colours that stay apart for most forms of colour blindness come first; later ones fill the wheel.
_FIRST_COLORS: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (128, 62, 117), (166, 189, 215), (193, 0, 32), (129, 112, 102), (0, 83, 138), (147, 170, 0), (89, 51, 21),
)  # fmt: skip


class Sample(TypedDict):
    """One image with its mask, as numpy arrays, before or after augmentation (see the module's legend)."""

    image: np.ndarray
    mask: np.ndarray
    id: str
    size: tuple[int, int]
    instances: NotRequired[np.ndarray]
    labels: NotRequired[np.ndarray]
    crowd: NotRequired[np.ndarray]


class Output(NamedTuple):
    """What a network with auxiliary heads gives in training: logits B K H W, and by head those of any height and width."""

    logits: Tensor
    aux: dict[str, Tensor]


class MaskQueries(NamedTuple):
    """What a mask-classification network gives: for each of Q queries a class (K and "none") and a mask.

    `classes` B Q K+1 and `masks` B Q h w are logits; `layers` are earlier predictions of the same form, in training only.
    """

    classes: Tensor
    masks: Tensor
    layers: tuple[MaskQueries, ...] = ()


class Detections(NamedTuple):
    """What a detector gives for one image of `size` (H, W): N objects, the most certain first.

    `boxes` N 4 (x1 y1 x2 y2 in pixels), `labels` N class ids, `scores` N, `masks` N h w: probabilities on a grid of any
    size that spans the box.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor
    size: tuple[int, int]


class Instances(NamedTuple):
    """The N objects of one image of `size` (H, W), true or found, on the CPU.

    `rles` N masks in COCO's compressed run-length form (see seglab.rle), `labels` N int64 class ids, `scores` N float64
    (1 for truth), `boxes` N 4 float64 (x1 y1 x2 y2, the edges of pixels), `crowd` N bool: a region of many, not one object.
    """

    size: tuple[int, int]
    rles: list[bytes]
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class Spec:
    """What a data set is. The dataset owns it; network, loss, metrics and report are told.

    In binary mode `classes` is (background, foreground) and the network has one output channel.
    `mean` and `std` are per channel, for images scaled to 0..1. With `instances` the data tell objects apart, and class 0
    is the background.
    """

    classes: tuple[str, ...]
    mode: Mode = "multiclass"
    ignore_index: int = 255
    channels: int = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    colors: tuple[Color, ...] = ()
    instances: bool = False

    def __post_init__(self) -> None:
        modes = ("binary", "multiclass", "multilabel")
        if self.mode not in modes:
            raise DataError(f"data.mode is '{self.mode}'; it must be one of {', '.join(modes)}.{nearest(self.mode, modes)}")
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise DataError(f"The class names {list(self.classes)} must be distinct, and at least one.")
        if self.mode == "binary" and len(self.classes) != 2:
            raise DataError(f"data.mode=binary needs two classes (background, foreground), not {list(self.classes)}.")
        labels = 2 if self.mode == "multilabel" else len(self.classes)
        if 0 <= self.ignore_index < labels:
            raise DataError(f"ignore_index {self.ignore_index} is a label of the masks; choose an id outside 0..{labels - 1}.")
        set_field = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  (frozen dataclass)
        if not self.mean:
            set_field("mean", (0.5,) * self.channels)
            set_field("std", (0.25,) * self.channels)
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise DataError(f"mean and std need one value per channel ({self.channels}), std above 0.")
        if not self.colors:
            set_field("colors", distinct_colors(len(self.classes)))
        if len(self.colors) != len(self.classes):
            raise DataError(f"{len(self.colors)} colours for {len(self.classes)} classes; give one colour per class.")

    @property
    def num_classes(self) -> int:
        """K, the number of classes (2 in binary mode)."""
        return len(self.classes)

    @property
    def out_channels(self) -> int:
        """Channels of the logits: 1 in binary mode, else K."""
        return 1 if self.mode == "binary" else len(self.classes)

    @property
    def scored(self) -> tuple[int, ...]:
        """The classes that a mean over classes counts: the foreground in binary mode, else all."""
        return (1,) if self.mode == "binary" else tuple(range(self.num_classes))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for a checkpoint or JSON."""
        return {
            k: [list(c) for c in v] if k == "colors" else list(v) if isinstance(v, tuple) else v
            for k, v in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Spec:
        """The Spec that `to_dict` wrote."""
        lists = {k: tuple(data[k]) for k in ("classes", "mean", "std")}
        return cls(**{**data, **lists, "colors": tuple(tuple(c) for c in data["colors"])})


def group_labels(ids: Sequence[str], pattern: str, setting: str) -> list[str]:
    """What a regular expression finds in the names of images: its first group, or all that it matches (a clip, a patient).

    DataError, naming the `setting`, for a bad expression and for a name in which it finds nothing.
    """
    try:
        found = [re.search(pattern, image) for image in ids]
    except re.error as error:
        raise DataError(f"{setting}='{visible(pattern)}' is no regular expression ({error}).") from error
    labels = [match.group(match.re.groups and 1) if match else None for match in found]
    if None in labels:
        raise DataError(
            f"{setting}='{visible(pattern)}' matches nothing in '{visible(ids[labels.index(None)])}', an image's name."
        )
    return cast(list[str], labels)


def distinct_colors(n: int) -> tuple[Color, ...]:
    """n RGB colours easy to tell apart; the first is a dark grey for a background."""
    golden = 0.618034
    more = (colorsys.hsv_to_rgb((i * golden) % 1, 0.55 + 0.45 * (i % 2), 0.95 - 0.35 * (i % 3) / 2) for i in range(n))
    extra = [(int(r * 255), int(g * 255), int(b * 255)) for r, g, b in more]
    return ((60, 60, 60), *_FIRST_COLORS, *extra)[:n]
