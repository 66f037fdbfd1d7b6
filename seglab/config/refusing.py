"""What the command line of a sweep cannot mean, said before Hydra says it in its own words or does something else, silently."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from seglab.errors import ConfigError
from seglab.processes import TRIAL

_PARAMS = "hydra.sweeper.params."
_RESUME = "sweep.resume"


def refuse(argv: list[str], environ: Mapping[str, str]) -> None:
    """ConfigError for a command line that is no sweep, or no study, though it looks like one, or two things at once."""
    flags = get_args_parser().parse_known_args(argv)[0]
    shows = [name for name in ("cfg", "info") if getattr(flags, name)]
    if flags.multirun and shows:
        raise ConfigError(f"--{shows[0]} shows one configuration, and -m runs many; leave -m out, and give each key one value.")
    try:
        given = OverridesParser.create().parse_overrides(flags.overrides)
    except OverrideParseException:
        return  # said where they are read
    many = flags.multirun or any(o.key_or_group == "hydra.mode" and str(o.value()).upper() == "MULTIRUN" for o in given)
    for override in given:
        _one(override, many)
    silent = shows or flags.help or flags.hydra_help or flags.shell_completion or TRIAL in environ
    if not many and not silent and (study := next((o for o in given if _study(o)), None)):
        raise ConfigError(f"{study.input_line} is for a study; give -m, or leave it out for a single run.")
    keys = {o.key_or_group: o for o in given}
    if _RESUME in keys and "hydra/launcher" in keys and keys["hydra/launcher"].value() == "basic":
        raise ConfigError("hydra/launcher=basic knows nothing of sweep.resume; leave one of them out.")
    auto = many and _RESUME in keys and keys[_RESUME].value() == "auto" and "hydra.sweep.dir" not in keys
    if auto and all(_hydras(key) or key == _RESUME for key in keys):
        raise ConfigError("sweep.resume=auto goes on with a sweep of the same command; repeat it, or give sweep.resume=DIR.")


def partial(folder: str, given: Sequence[str], record: Path) -> None:
    """ConfigError if a command for a sweep that is gone on with sets less than the sweep's own, which `record` holds.

    Whoever changes one setting of many would else train something else altogether, by the defaults.
    """
    try:
        own = [str(word) for word in json.loads(record.read_text(encoding="utf-8"))["command"]]
    except (OSError, ValueError, KeyError, TypeError):
        return  # said where the record is read
    left = [key for key in dict.fromkeys(map(key_of, own)) if key not in {key_of(a) for a in given}]
    if left:
        named = ", ".join(left[:4]) + (", ..." if len(left) > 4 else "")
        raise ConfigError(
            f"sweep.resume={folder}: this command leaves out what the sweep's own sets ({named}); repeat all of that with your "
            f"changes, or give nothing but settings of hydra.* to go on as it was."
        )


def _one(override: Override, many: bool) -> None:
    key, text = override.key_or_group, str(override.input_line)
    if override.is_delete():
        return
    if key in ("hydra.launcher", "hydra.sweeper") and isinstance(override.value(), str):
        raise ConfigError(f"{text}: a choice is written with a slash; give {key.replace('.', '/')}={override.value()}.")
    if key.startswith(_PARAMS):
        raise ConfigError(f"{text}: an axis is given by itself; write '{key.removeprefix(_PARAMS)}=...', as without a study.")
    if many and override.is_sweep_override():
        if _hydras(key):
            raise ConfigError(f"{text}: there is one {key} for the whole sweep; give one value (a list is written [0,1]).")
        if key == "hparams":
            raise ConfigError(f"{text}: a study searches one space; start one for each, or write a file with the axes of all.")


def _study(override: Override) -> bool:
    """Whether the override asks for a study."""
    if override.is_delete() or override.is_sweep_override():
        return False
    return (override.key_or_group, override.value()) == ("hydra/sweeper", "optuna") or (
        override.key_or_group == "hparams" and override.value() is not None
    )


def _hydras(key: str) -> bool:
    return key.startswith(("hydra.", "hydra/"))


def key_of(override: str) -> str:
    """The key that the text of an override sets, without Hydra's + and ~."""
    return override.partition("=")[0].lstrip("+~")
