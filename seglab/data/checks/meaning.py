"""What the stored values of masks mean, by the same rules as training reads them (see mask_rules.decide)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from seglab.data.checks.looks import Label, Look
from seglab.data.folder_classes import Told
from seglab.data.folder_scan import Seen
from seglab.data.mask_codec import code
from seglab.data.mask_rules import BACKGROUNDS, Rules, decide, is_layered
from seglab.errors import SeglabError
from seglab.types import Spec

VOID = -1  # what `of` gives for pixels that count nowhere


@dataclass(frozen=True)
class Meaning:
    """Class names and, for stored values, class ids. `by_id`: each value of a mask is an object of its own."""

    classes: tuple[str, ...]
    mode: str
    ignore: int
    ids: Mapping[int, int]
    rest: int | None = None
    colored: bool = False
    by_id: bool = False

    def of(self, label: Label, value: int) -> int | None:
        """The class id of a stored value, VOID, or None for one that no class has; for layers 1 where the class is."""
        if self.colored and label.kind == "ids" and label.layers > 1:
            value = code((value, value, value))  # a grey colour
        found = self.ids.get(value, self.rest)
        return VOID if found == self.ignore else found

    @property
    def backgrounds(self) -> set[int]:
        """Classes whose regions are no objects."""
        first = self.classes[0].lower().replace("-", "_").split("_")[0]
        return {0} if self.mode == "binary" or (self.mode != "multilabel" and first in BACKGROUNDS) else set()


def of_source(spec: Spec) -> Meaning:
    """Masks that hold class ids already."""
    count = 2 if spec.mode == "multilabel" else spec.num_classes
    ids = {**{k: k for k in range(count)}, spec.ignore_index: spec.ignore_index}
    return Meaning(spec.classes, spec.mode, spec.ignore_index, ids)


def whole(looks: Sequence[Look]) -> list[tuple[Look, Label]]:
    """The masks that could be read."""
    return [(look, look.label) for look in looks if look.label is not None]


def layered(masks: Sequence[tuple[Look, Label]], mode: str | None, foreground: bool) -> bool:
    """Whether every channel of the masks is a class of its own."""
    return is_layered(mode, foreground, {label.channels(False) for _, label in masks})


def understand(
    masks: Sequence[tuple[Look, Label]], told: Told, mode: str | None, foreground: bool
) -> tuple[Meaning | None, str]:
    """The Meaning of all masks, or None and the sentence with which training would refuse them."""
    is_deep = layered(masks, mode, foreground)
    seen = [Seen(look.mask, None if label.kind == "colors" else frozenset(label.values)) for look, label in masks]
    try:
        with silence():
            rules = decide(told, mode, foreground, max(label.channels(is_deep) for _, label in masks), is_deep, seen)
    except SeglabError as error:
        return None, str(error)
    return of_rules(rules), ""


def of_rules(rules: Rules) -> Meaning:
    """What the rules of a data set say, which training reads its masks by."""
    codec = rules.codec
    return Meaning(rules.classes, rules.mode, rules.ignore_index, dict(codec.ids), codec.rest, codec.colored, rules.instances)


@contextmanager
def silence() -> Iterator[None]:
    """The rules log what they assume; here findings say it."""
    log = logging.getLogger("seglab")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
