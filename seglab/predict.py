"""Segment images: `python -m seglab.predict ckpt=FILE input=FILE|DIR output=DIR [instances=watershed]`.

Writes masks/ (class ids as PNG), colors/ and overlays/ at the images' original size; where objects are told apart, also
instances/ (their ids as 16-bit PNG), objects/ (painted) and instances.json (COCO's form, with scores). The configuration is
the one inside the checkpoint; trainer.accelerator, trainer.precision, data.scale, instances and task.min_score may be
overridden.
"""

from __future__ import annotations

from pathlib import Path

from seglab.config import arguments, chosen, override, plain_door

KEYS = {"ckpt": str, "input": str, "output": str, "instances": None}
MAY_CHANGE = ("data", "trainer", "instances", "task")


def run(argv: list[str]) -> None:
    """One prediction job, from the command line's arguments."""
    own, overrides = arguments(argv, KEYS, MAY_CHANGE)

    from seglab import checkpoint, engine

    saved = checkpoint.load(own["ckpt"])
    config = override(chosen(saved.config, "instances", own["instances"]), overrides)
    engine.predict(saved, config, Path(own["input"]), Path(own["output"]))


def main() -> None:
    """`python -m seglab.predict`."""
    plain_door(run, __doc__)


if __name__ == "__main__":
    main()
