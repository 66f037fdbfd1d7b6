"""What all files of a folder must agree on: the images' channels, and masks that one set of rules can read."""

from __future__ import annotations

from collections.abc import Sequence

from seglab.data.folder_classes import Told
from seglab.data.folder_scan import Scan, Seen, even_sample, kinds, see
from seglab.data.layout import Pair
from seglab.data.mask_rules import Rules, decide, is_layered
from seglab.data.reading import read_mask
from seglab.errors import ConfigError, DataError

_SAMPLE = 200  # masks decoded before training


def common_channels(pairs: Sequence[Pair], scans: Sequence[Scan], wanted: int | None) -> int:
    """The channels of every image: `wanted`, or what all images have; DataError names two images that differ."""
    if wanted is not None and (not isinstance(wanted, int) or wanted < 1):
        raise ConfigError(f"data.channels={wanted!r} must be a whole number above 0.")
    first = scans[0].image.channels
    for pair, found in kinds(pairs, scans):
        channels = found.image.channels
        if wanted is None and channels != first:
            raise DataError(
                f"{pairs[0].image} has {_channels(first)} and {pair.image} has {channels}; set data.channels=3 or "
                "data.channels=1 to convert all images."
            )
        if wanted is not None and channels != wanted and (wanted not in (1, 3) or channels > 4):
            raise DataError(
                f"{pair.image} has {_channels(channels)}, which data.channels={wanted} cannot be made from; only images of "
                "1 to 4 channels are converted, to 1 or 3; leave data.channels out or convert the files."
            )
    return wanted or first


def mask_rules(pairs: Sequence[Pair], scans: Sequence[Scan], told: Told, mode: str | None, foreground: bool) -> Rules:
    """Rules for all masks, from their headers and an even sample of their pixels; DataError names a mask that breaks them."""
    layered = is_layered(mode, foreground, {_layers(found, False) for _, found in kinds(pairs, scans)})
    count = common_layers(pairs, scans, layered)
    seen = see([pair.mask for pair in even_sample(pairs, _SAMPLE)], layered)
    rules = decide(told, mode, foreground, count, layered, seen)
    for one in seen:
        if _breaks(one, rules):
            rules.codec(read_mask(one.path), one.path)  # raises, with the place
    return rules


def _breaks(seen: Seen, rules: Rules) -> bool:
    """Whether a sampled mask may hold what the rules do not know; colours are only known by looking again."""
    if rules.codec.rest is not None:
        return False
    return rules.codec.colored or seen.values is None or not seen.values <= {old for old, _ in rules.codec.ids}


def common_layers(pairs: Sequence[Pair], scans: Sequence[Scan], layered: bool) -> int:
    """The channels of every mask (of ids and colours: the most); DataError names masks that do not go together."""
    every = [(pair, _layers(found, layered)) for pair, found in kinds(pairs, scans)]
    first = every[0][1]
    for pair, count in every:
        if layered and count != first:
            raise DataError(
                f"{pairs[0].mask} has {_channels(first)} and {pair.mask} has {count}; multilabel masks need one channel "
                "per class, the same in every file."
            )
        if not layered and count not in (1, 3):
            raise DataError(
                f"{pair.mask} has {_channels(count)}; a mask has one channel of ids or three of colours "
                "(data.mode=multilabel, if each channel is a class of its own)."
            )
    return max(count for _, count in every)


def _layers(scan: Scan, layered: bool) -> int:
    """Channels of a mask; alpha counts only where every channel is a class."""
    return scan.mask.layers - (scan.mask.alpha and not layered)


def _channels(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}"
