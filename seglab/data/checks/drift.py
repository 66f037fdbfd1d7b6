"""Do val and test look like train? Brightness and contrast of images, shares of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seglab.data.checks.findings import Finding, percent
from seglab.data.checks.looks import Look
from seglab.data.checks.meaning import Meaning
from seglab.data.checks.shares import Share

_FAR, _CLEAR, _FEWEST = 1.0, 4.0, 8
_SHARES = 0.25


def of_images(looks: Mapping[str, Sequence[Look]]) -> list[Finding]:
    """A warning where a channel's mean or contrast in val or test is more than a standard deviation of train's images away."""
    numbers = {split: _numbers(some) for split, some in looks.items()}
    train = numbers.get("train", np.zeros((0, 0)))
    if len(train) < _FEWEST:
        return []
    found = []
    for split, other in numbers.items():
        if split == "train" or len(other) < _FEWEST or other.shape[1] != train.shape[1]:
            continue
        spread = np.maximum(train.std(0, ddof=1), 1e-3)
        away = (other.mean(0) - train.mean(0)) / spread
        # Few images differ by chance.
        noise = np.sqrt(1 / len(train) + other.var(0, ddof=1) / spread**2 / len(other))
        far = np.where(np.abs(away) > _CLEAR * noise, away, 0)
        worst = int(np.abs(far).argmax())
        if abs(far[worst]) > _FAR:
            channels = train.shape[1] // 2
            what = f"{'mean' if worst < channels else 'contrast'} of channel {worst % channels}"
            text = (
                f"The images of {split} differ from train's: the {what} is {other[:, worst].mean():.3f} "
                f"instead of {train[:, worst].mean():.3f}, "
                f"{abs(far[worst]):.1f} standard deviations of train's images {'above' if far[worst] > 0 else 'below'}."
            )
            evidence = {"split": split, "differences": [float(f"{v:.4g}") for v in away]}
            found.append(
                Finding("warning", "image_drift", text, (), evidence, "split by chance, or read the score as one on other data")
            )
    return found


def of_classes(shares: Mapping[str, Share], meaning: Meaning) -> list[Finding]:
    """Where the classes' shares of pixels in val or test are others than in train (total variation above a quarter)."""
    parts = {split: _parts(share) for split, share in shares.items() if share.images >= _FEWEST}
    found = []
    for split in parts.keys() - {"train"} if "train" in parts else ():
        away = parts[split] - parts["train"]
        distance = float(np.abs(away).sum() / 2)
        if distance > _SHARES:
            k = int(np.abs(away).argmax())
            text = (
                f"Classes have other shares in {split} than in train: {meaning.classes[k]} has "
                f"{percent(parts[split][k])} of the pixels instead of {percent(parts['train'][k])}."
            )
            evidence = {"split": split, "total_variation": distance}
            found.append(
                Finding("warning", "class_drift", text, (), evidence, "split by chance, or read the score as one on other data")
            )
    return found


def _numbers(looks: Sequence[Look]) -> np.ndarray:
    """Mean and standard deviation of every channel, one row for each image; of images that differ in channels, none."""
    rows = [look.picture.mean + look.picture.std for look in looks if look.picture]
    return np.array(rows) if rows and len({len(row) for row in rows}) == 1 else np.zeros((0, 0))


def _parts(share: Share) -> np.ndarray:
    pixels = np.array([row.pixels for row in share.rows], np.float64)
    return pixels / max(pixels.sum(), 1)
