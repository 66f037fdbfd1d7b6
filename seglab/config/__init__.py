"""Configuration: composing conf/ and overrides, the doors, and errors that name the nearest right name.

Imports neither torch nor lightning, so that `--help` and `--cfg job` answer at once.
"""

from seglab.config.commandline import arguments, parse
from seglab.config.composing import COMPOSING, conf_dir
from seglab.config.doors import door, fail, plain_door, sentence
from seglab.config.dotted import flat
from seglab.config.loading import chosen, compose, load, override, plain, write_hydra
from seglab.config.mistakes import explain

__all__ = [
    "COMPOSING", "arguments", "chosen", "compose", "conf_dir", "door", "explain", "fail", "flat", "load", "override", "parse",
    "plain", "plain_door", "sentence", "write_hydra",
]  # fmt: skip
