"""The command line before Hydra or a door reads it: plain settings, and what a resumed run asks of Hydra."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.config.mistakes import explain
from seglab.config.refusing import key_of, partial, refuse
from seglab.errors import ConfigError, nearest

LAST = Path("checkpoints", "last.ckpt")
SWEEP = "sweep.json"  # a sweep's record; seglab.sweep writes it
KEEP_RECORD = "hydra.output_subdir=null"  # Hydra leaves the .hydra of the run's first start as it is
_RESUME = re.compile(r"\+{0,2}sweep\.resume=")
by_record: list[str] = []  # of this process's command, what a sweep's record holds, which anybody may have written
_GO_ON = "hydra.launcher.resume=true"
_HYDRAS = re.compile(r"[~+]*hydra[./]")
_PLACES = re.compile(r"--config-(path|name|dir)=")  # of Hydra's flags those that a sweep's record may hold


def parse(arguments: list[str]) -> dict[str, Any]:
    """`key=value` arguments of the doors that take their config from a checkpoint; ConfigError if one cannot be read."""
    try:
        parsed = OverridesParser.create().parse_overrides(arguments)
    except OverrideParseException as error:
        raise ConfigError(explain(error, arguments)) from error
    for override, text in zip(parsed, arguments, strict=True):
        if override.is_sweep_override() or override.is_delete():
            raise ConfigError(f"'{text}': this command takes plain key=value settings.")
    return {o.key_or_group: o.value() for o in parsed}


def arguments(argv: list[str], keys: dict[str, Any], groups: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split `key=value` arguments into the door's own keys (with defaults; `str` = required) and overrides of `groups`."""
    given = parse(argv)
    own = {k: given.pop(k, None if default is str else default) for k, default in keys.items()}
    for key, default in keys.items():
        if default is str and own[key] is None:
            raise ConfigError(f"'{key}' is not set; give {key}=...")
    for key in given:
        if key.split(".")[0] not in groups or "." not in key:
            raise ConfigError(f"There is no key '{key}' here.{nearest(key, [*keys, *(f'{g}.*' for g in groups)])}")
    return own, given


def prepared(argv: list[str], environ: Mapping[str, str]) -> list[str]:
    """The arguments as Hydra shall see them; ConfigError for what cannot be resumed or would run code."""
    argv = _flags_first(argv)
    flags = get_args_parser().parse_known_args(argv)[0]
    if flags.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun reads a pickle, which could run any code; use resume=FOLDER instead.")
    refuse(argv, environ)
    argv = sweeping(argv, flags.multirun)
    more = [*resuming(argv, flags.multirun), *further_process(environ)]
    return [*argv, *dict.fromkeys(more)]


def _flags_first(argv: list[str]) -> list[str]:
    """Hydra's flags, then the overrides: argparse refuses these on both sides of -m, where people like to put it."""
    options = get_args_parser()._option_string_actions
    flags, rest = list[str](), list[str]()
    words = iter(argv)
    for word in words:
        (flags if word.startswith("-") else rest).append(word)
        if word in options and options[word].nargs is None:  # --config-dir DIR
            flags += [value for value in [next(words, None)] if value is not None]
    return [*flags, *rest]


def resuming(argv: list[str], multirun: bool) -> list[str]:
    """The overrides that keep Hydra in the folder of the run that `resume=` names, and its .hydra as it was."""
    given = _literal(argv, ("resume", "hydra.run.dir", "hydra.mode"))
    if "resume" not in given:
        return []
    folder, target = given["resume"], given.get("hydra.run.dir")
    if folder == "auto":
        found = not multirun and target is not None and (Path(target) / LAST).is_file()
        return [KEEP_RECORD] if found else []
    if multirun or str(given.get("hydra.mode")).upper() == "MULTIRUN":
        raise ConfigError(f"resume={folder} is one run; a sweep goes on with sweep.resume=DIR.")
    if not folder or not Path(folder).is_dir():
        raise ConfigError(f"resume={folder}: there is no such folder; give the folder of a run, which holds {LAST.as_posix()}.")
    if Path(folder, SWEEP).is_file() and not Path(folder, LAST).is_file():
        raise ConfigError(f"resume={folder} is the folder of a sweep; go on with -m sweep.resume={folder}.")
    if target is not None and Path(target).resolve() != Path(folder).resolve():
        raise ConfigError(
            f"resume={folder} and hydra.run.dir={target} are two folders; a run goes on in its own, so give only resume."
        )
    name = [f"resume={quoted(folder)}"] if folder.isdecimal() else []  # a sweep's run is named 3, which Hydra reads as a number
    return [*name, f"hydra.run.dir={quoted(folder)}", KEEP_RECORD]


def sweeping(argv: list[str], multirun: bool) -> list[str]:
    """The arguments with `sweep.resume=DIR|auto` replaced by what it means to Hydra.

    DIR: go on with that sweep, whose own command is repeated if none is given. auto: with hydra.sweep.dir=FOLDER if that
    holds one, else with the latest unfinished sweep of this same command; where there is none it starts anew.
    """
    for wrong in (m[1] for a in argv if (m := re.match(r"\+{0,2}(sweep\b[^=]*)=", a)) and m[1] != "sweep.resume"):
        raise ConfigError(f"There is no key '{wrong}'. Did you mean 'sweep.resume'?")
    asked, given = _literal(argv, ("sweep.resume", "hydra.sweep.dir")), [a for a in argv if not _RESUME.match(a)]
    if len(given) == len(argv) or "sweep.resume" not in asked:
        return given
    folder, target = asked["sweep.resume"], asked.get("hydra.sweep.dir")
    if not multirun:
        raise ConfigError(f"sweep.resume={folder} is for a sweep; give -m, or resume=FOLDER for one run.")
    if folder == "auto":
        command = [a for a in get_args_parser().parse_known_args(given)[0].overrides if not _HYDRAS.match(a)]
        found = target if target is not None and Path(target, SWEEP).is_file() else None
        found = found or (unfinished(command, places(given)) if target is None else None)
        return given if found is None else [*given, *([] if target else [f"hydra.sweep.dir={quoted(found)}"]), _GO_ON]
    if not Path(folder, SWEEP).is_file():
        raise ConfigError(f"sweep.resume={folder}: there is no {Path(folder, SWEEP)}; give the folder of a sweep, or auto.")
    if target is not None and Path(target).resolve() != Path(folder).resolve():
        raise ConfigError(f"sweep.resume={folder} and hydra.sweep.dir={target} are two folders; give only sweep.resume.")
    new = get_args_parser().parse_known_args(given)[0].overrides
    flags, keys = [a for a in given if a not in new], {key_of(a) for a in new}
    if not all(_HYDRAS.match(a) for a in new):
        partial(folder, new, Path(folder, SWEEP))
    # Settings of Hydra's own (more trials, other devices) come on top of the sweep's own command.
    own = recorded(Path(folder)) if all(_HYDRAS.match(a) for a in new) else []
    by_record.extend(own)
    where = [a for a in own if a.startswith("-")] if not places(given) else []
    own = [a for a in own if not a.startswith("-") and key_of(a) not in keys]
    return [*where, *flags, *own, *new, f"hydra.sweep.dir={quoted(folder)}", _GO_ON]


def places(argv: list[str]) -> list[str]:
    """The flags that say where the configuration is, one word each, in which the folder of --config-dir is absolute."""
    given = get_args_parser().parse_known_args(argv)[0]
    folder = os.path.abspath(given.config_dir) if given.config_dir else None
    told = {"--config-path": given.config_path, "--config-name": given.config_name, "--config-dir": folder}
    return [f"{flag}={value}" for flag, value in told.items() if value]


def recorded(folder: Path) -> list[str]:
    """The command of a sweep's folder; ConfigError where its record cannot be read."""
    try:
        found = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        command = [*found["command"], *found["hydra"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / SWEEP} is not a sweep's record ({error}); start the sweep in another folder.") from error
    # Anybody may have written it: --experimental-rerun, for one, would run code.
    if not all(isinstance(word, str) and (_PLACES.match(word) or not word.startswith("-")) for word in command):
        raise ConfigError(f"{folder / SWEEP} is not a sweep's record; start the sweep in another folder.")
    return command


def unfinished(command: list[str], where: list[str]) -> str | None:
    """The latest folder below multirun/ whose sweep has this command and these `places`, and is not finished."""
    for path in sorted(Path("multirun").glob(f"*/*/{SWEEP}"), reverse=True):
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            found = json.loads(path.read_text(encoding="utf-8"))
            total, states = found["total"], [trial["state"] for trial in found["trials"]]
            over = ("finished", "pruned", *(["failed"] if found.get("study") else []))  # a study does not try again
            same = found["command"] == command and [w for w in found["hydra"] if w.startswith("-")] == where
            if same and (len(states) < (total or 0) or any(s not in over for s in states)):
                return str(path.parent)
    return None


def further_process(environ: Mapping[str, str]) -> list[str]:
    """The override for a process that torchrun or SLURM started beside the first: it leaves the run's .hydra alone."""
    ranks = [environ.get(name, "") for name in ("RANK", "SLURM_PROCID")]
    return [KEEP_RECORD] if any(r.isdecimal() and int(r) > 0 for r in ranks) else []


def quoted(text: str) -> str:
    """The text as a value of Hydra's override grammar that is read back unchanged."""
    return QuotedString(text.replace("${", "\\${"), Quote.single).with_quotes()


def _literal(argv: list[str], keys: tuple[str, ...]) -> dict[str, str]:
    """The last value given for each of `keys` as text: nothing for null, and for what Hydra will refuse or sweep over."""
    pattern = re.compile(rf"\+{{0,2}}({'|'.join(map(re.escape, keys))})=")
    try:
        parsed = OverridesParser.create().parse_overrides([a for a in argv if pattern.match(a)])
    except OverrideParseException:
        return {}
    found: dict[str, str | None] = {}
    for override in parsed:
        value = None if override.is_sweep_override() else override.value()
        # A folder named 007 is a number to Hydra; its text is meant.
        text = value if isinstance(value, str) else str(override.input_line).partition("=")[2]
        found[override.key_or_group] = None if value is None else _resolved(text)
    return {key: text for key, text in found.items() if text is not None}


def _resolved(text: str) -> str:
    """The text with ${oc.env:X} filled in; as it is written where only Hydra can do that."""
    try:
        return str(OmegaConf.create({"text": text}).text)
    except OmegaConfBaseException:
        return text
