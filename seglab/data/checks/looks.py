"""What was seen of each pair of files: facts only, without any opinion on what the masks mean, so that they can be kept."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, NamedTuple

THUMB = 64  # side of the grey thumbnails
REACH = 8  # pixels by which masks are shifted against their images


class Fault(NamedTuple):
    """A file that could not be used: `where` is image or mask, `kind` the finding it leads to, `why` the reader's words."""

    where: str
    kind: str
    why: str


@dataclass(frozen=True)
class Picture:
    """An image: its header, its pixels in numbers (scaled to 0..1 as in training), and what tells it from others.

    `digest` is blake2b of the decoded pixels, `dhash` 64 signs of horizontal differences, `thumb` 64 x 64 grey bytes.
    """

    height: int
    width: int
    channels: int
    alpha: bool
    dtype: str
    format: str
    orientation: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float
    high: float
    digest: str
    dhash: int
    thumb: bytes


@dataclass(frozen=True)
class Plane:
    """One H W plane of a mask: pixels of each value, of these on a border, and {value: {area: components}} (None: too many)."""

    values: dict[int, int]
    border: dict[int, int]
    areas: dict[int, dict[int, int]] | None


@dataclass(frozen=True)
class Label:
    """A mask as stored: `kind` is ids, colors (values are codes, see mask_codec.code) or layers (one plane each)."""

    height: int
    width: int
    layers: int
    alpha: bool
    dtype: str
    format: str
    palette: bool
    kind: str
    planes: tuple[Plane, ...]
    one_hot: bool
    digest: str

    def channels(self, layered: bool) -> int:
        """How many of them count: alpha only where every channel is a class."""
        return self.layers - (self.alpha and not layered)

    @property
    def values(self) -> set[int]:
        """All that occurs in any plane."""
        return {value for plane in self.planes for value in plane.values}


@dataclass(frozen=True)
class Look:
    """One pair: names for messages, its two halves (None where a file cannot be used), faults, and edge agreement by shift."""

    id: str
    image: str
    mask: str
    picture: Picture | None
    label: Label | None
    faults: tuple[Fault, ...] = ()
    agreement: tuple[float, ...] | None = None


def to_json(look: Look) -> dict[str, Any]:
    """The look as JSON can hold it."""
    data = dict(vars(look))  # dataclasses.asdict would take half of the time of the whole check
    if look.picture is not None:
        data["picture"] = {**vars(look.picture), "thumb": base64.b64encode(look.picture.thumb).decode()}
    if look.label is not None:
        data["label"] = {**vars(look.label), "planes": [vars(plane) for plane in look.label.planes]}
    return data


def from_json(data: dict[str, Any]) -> Look:
    """The look that `to_json` wrote; KeyError, TypeError, ValueError or AttributeError if it did not."""
    picture, label, agreement = data["picture"], data["label"], data["agreement"]
    if picture is not None:
        thumb = base64.b64decode(picture["thumb"], validate=True)
        if len(thumb) != THUMB**2:
            raise ValueError("a thumbnail of another size")
        picture = Picture(
            **{**picture, "thumb": thumb, "mean": tuple(map(float, picture["mean"])), "std": tuple(map(float, picture["std"]))}
        )
    if label is not None:
        label = Label(**{**label, "planes": tuple(_plane(one) for one in label["planes"])})
    if agreement is not None and len(agreement) != (2 * REACH + 1) ** 2:
        raise ValueError("shifts of another reach")
    faults = tuple(Fault(*map(str, one)) for one in data["faults"])
    told = {key: str(data[key]) for key in ("id", "image", "mask")}
    return Look(**told, picture=picture, label=label, faults=faults, agreement=agreement and tuple(map(float, agreement)))


def _plane(data: dict[str, Any]) -> Plane:
    areas = data["areas"]
    return Plane(
        _counts(data["values"]),
        _counts(data["border"]),
        None if areas is None else {int(v): _counts(a) for v, a in areas.items()},
    )


def _counts(data: dict[str, Any]) -> dict[int, int]:
    return {int(value): int(count) for value, count in data.items()}
