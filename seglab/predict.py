"""Segment images: `python -m seglab.predict ckpt=FILE input=FILE|DIR output=DIR`.

Writes masks/ (class ids as PNG), colors/ and overlays/ at the images' original size. The configuration is the one inside
the checkpoint; trainer.accelerator, trainer.precision and data.scale may be overridden.
"""

from __future__ import annotations

from pathlib import Path

from seglab.config import arguments, override, plain_door

KEYS = {"ckpt": str, "input": str, "output": str}
MAY_CHANGE = ("data", "trainer")


def run(argv: list[str]) -> None:
    """One prediction job, from the command line's arguments."""
    own, overrides = arguments(argv, KEYS, MAY_CHANGE)

    from seglab import checkpoint, engine

    saved = checkpoint.load(own["ckpt"])
    config = override(saved.config, overrides)
    engine.predict(saved, config, Path(own["input"]), Path(own["output"]))


def main() -> None:
    """`python -m seglab.predict`."""
    plain_door(run, __doc__)


if __name__ == "__main__":
    main()
