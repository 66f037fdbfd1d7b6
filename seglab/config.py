"""Configuration: where conf/ is, composing it, doors, and errors that name the nearest right name.

Imports neither torch nor lightning, so that `--help` and `--cfg job` answer at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.errors import ConfigError, SeglabError, nearest
from seglab.expressions import register

COMPOSING = (HydraException, OmegaConfBaseException, ValueError)  # Hydra's words for `loss=2` are a bare ValueError


def conf_dir() -> Path:
    """The folder of configuration groups: inside the package (wheel) or beside it (checkout)."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"No conf/train.yaml in {package} or beside it; reinstall seglab.")


def load(overrides: list[str], name: str = "train", hydra: bool = False) -> DictConfig:
    """Compose a configuration outside a door (tests, notebooks, evaluate); ConfigError in one sentence."""
    register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(name, overrides, return_hydra_config=hydra)
    except COMPOSING as error:
        raise ConfigError(explain(error, overrides)) from error


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as dicts, lists, numbers and strings, interpolations resolved, without Hydra's own section."""
    try:
        data = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"The configuration cannot be resolved: {_first_line(error)}") from error
    assert isinstance(data, dict)
    return {str(k): v for k, v in data.items() if k != "hydra"}


def explain(error: Exception, overrides: list[str]) -> str:
    """One sentence for an error of Hydra's: the culprit, and the nearest right name where there is one."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        why = _first_line(error)
        return f"The override '{error.override}' cannot be read ({why}); write key=value, quoted if it holds ( ) or spaces."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"There is no {group or 'config'} '{name}'.{nearest(name, error.options or _options(group))}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], overrides)
    if match := re.search(r"config group '([^']+)' does not exist", text):
        return _unknown_key(match[1], overrides)
    if "Config group override must be" in text:
        groups = [o for o in overrides if (conf_dir() / o.split("=")[0]).is_dir()]
        return f"One of {', '.join(groups)} is a number or settings where the name of a choice belongs (see --help)."
    if match := re.search(r"Error merging override (\S+)", text):
        return f"The override '{match[1]}' does not fit the configuration: {_first_line(error.__cause__ or error)}"
    return " ".join(text.split())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _options(group: str) -> list[str]:
    folder = conf_dir() / group
    return [p.stem for p in folder.glob("*.yaml")] if folder.is_dir() else []


def _unknown_key(key: str, overrides: list[str]) -> str:
    """`trainer.max_epoch` -> which part is unknown, and the nearest key beside it (or of that name elsewhere)."""
    key = key.split("@")[0]
    groups = [o for o in overrides if "=" in o and (conf_dir() / o.split("=")[0]).is_dir()]
    if "." not in key:  # modle=unet: the group that offers the value is meant
        value = next((o.split("=", 1)[1] for o in overrides if o.startswith(f"{key}=")), "")
        meant = [d.name for d in conf_dir().iterdir() if (d / f"{value}.yaml").is_file()]
        if meant and "Did you mean" in (hint := nearest(key, meant)):
            return f"There is no key '{key}'.{hint}"
    try:
        config = load([g for g in groups if g.split("=")[0] != key])
    except ConfigError:  # one of them is wrong too, or a sweep over choices
        config = load([])
    done: list[str] = []
    for part in key.split("."):
        if not isinstance(config, DictConfig):
            return f"'{'.'.join(done)}' has no part '{part}'; it holds a single value."
        if part not in config:
            known = [str(k) for k in config if not str(k).startswith("_")]
            where = f" in '{'.'.join(done)}'" if done else ""
            return f"There is no key '{part}'{where}.{nearest(part, known)}"
        done.append(part)
        config = OmegaConf.select(config, part)
    return f"The key '{key}' cannot be set this way."


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


def door(job: Callable[[DictConfig], Any], name: str) -> None:
    """Run `job` under Hydra; an error a user can mend is printed as one sentence with exit code 1.

    In a multirun the other jobs still run, each failed one prints its sentence, and the exit code is 1.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    failed: list[SeglabError] = []

    def guarded(config: DictConfig) -> Any:
        try:
            return job(config)
        except SeglabError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                print(sentence(error), file=sys.stderr)
                raise  # the sweeper must know
            failed.append(error)  # raised through Hydra it would come with a line of Hydra's own
            return None

    register()
    # argparse refuses overrides on both sides of -m, where people like to put it.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda a: a not in ("-m", "--multirun"))
    asked_for_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands us the exception itself instead of printing it its own way
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
    except SeglabError:
        sys.exit(1)  # of a multirun, and printed already
    except COMPOSING as error:
        if asked_for_trace:
            raise
        fail(ConfigError(explain(error, [a for a in sys.argv[1:] if "=" in a])))
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    if failed and asked_for_trace:
        raise failed[0]
    if failed:
        fail(failed[0])


def sentence(error: SeglabError) -> str:
    """The error as one line: its kind and what it says."""
    return f"{type(error).__name__}: {error}"


def fail(error: SeglabError) -> None:
    """Print the error's sentence to stderr and leave with exit code 1."""
    print(sentence(error), file=sys.stderr)
    sys.exit(1)


def plain_door(job: Callable[[list[str]], Any], doc: str | None) -> None:
    """Run a door that takes its configuration from a checkpoint: help, and errors as one sentence with exit code 1."""
    argv = sys.argv[1:]
    if not argv or {"-h", "--help"} & set(argv):
        print((doc or "").strip())
        sys.exit(0 if argv else 2)
    try:
        job(argv)
    except SeglabError as error:
        fail(error)


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


def override(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of the configuration with dotted keys set; ConfigError if a key leads through a value."""
    done = OmegaConf.create(config)
    for key, value in changes.items():
        parent = key.rpartition(".")[0]
        if not isinstance(OmegaConf.select(done, parent), DictConfig):
            raise ConfigError(f"There is no key '{parent}' in the checkpoint's configuration.{nearest(parent, config)}")
        OmegaConf.update(done, key, value, force_add=True)
    return plain(done)
