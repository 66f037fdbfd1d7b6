"""Hydra's errors as one sentence that names the culprit and the nearest right name."""

from __future__ import annotations

import re
from difflib import get_close_matches

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from seglab.config.composing import COMPOSING, composed, conf_dir
from seglab.errors import SeglabError, nearest


def explain(error: Exception, overrides: list[str]) -> str:
    """One sentence for an error of Hydra's: the culprit, and the nearest right name where there is one."""
    text = str(error)
    if isinstance(error.__cause__, SeglabError):  # of a launcher or sweeper of ours, which Hydra makes
        return str(error.__cause__)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if match := re.search(r"Ambiguous value for argument '(.*)'\n", text):
        return f"'{match[1]}' names several values; give -m for a run with each of them, or [...] around them for a list."
    if "does not support sweep type" in text:
        ranges = [o for o in overrides if re.search(r"\binterval\(", o)]
        return f"'{', '.join(ranges)}': only a study searches intervals; give hydra/sweeper=optuna, or values such as KEY=A,B."
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
        return f"The override '{match[1]}' does not fit the configuration: {first_line(error.__cause__ or error)}"
    return " ".join(text.split())


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _unreadable(error: OverrideParseException) -> str:
    """Why an override cannot be read: what its first lines say besides naming it again."""
    lines = [line for line in str(error).splitlines() if not line.startswith("Error parsing override")]
    why = re.sub(r"^\w+ while evaluating '.*': ", "", lines[0]) if lines else first_line(error)
    start = f"The override '{error.override}' cannot be read"
    if match := re.search(r"Unknown function '(\w+)'\nAvailable: (\S+)", str(error)):
        hint = " Write tag(log, interval(a,b))." if match[1].startswith("log") else nearest(match[1], match[2].split(","))
        return f"{start}: there is no function '{match[1]}'.{hint}"
    if "while evaluating" in str(error):
        return f"{start}: {why}."
    return f"{start} ({why}); write key=value, quoted if it holds ( ) or spaces."


def _options(group: str) -> list[str]:
    folder = conf_dir() / group
    return [p.stem for p in folder.glob("*.yaml")] if folder.is_dir() else []


def _unknown_key(key: str, overrides: list[str]) -> str:
    """`trainer.max_epoch` -> which part is unknown, and the nearest key beside it (or of that name elsewhere)."""
    key = key.split("@")[0]
    groups = [o for o in overrides if "=" in o and (conf_dir() / o.split("=")[0]).is_dir()]
    if "." not in key:  # modle=unet: the group that offers the value is meant
        value = next((o.split("=", 1)[1].split(",")[0] for o in overrides if o.startswith(f"{key}=")), "")
        meant = [d.name for d in conf_dir().iterdir() if (d / f"{value}.yaml").is_file()]
        if meant and "Did you mean" in (hint := nearest(key, meant)):
            return f"There is no key '{key}'.{hint}"
    if hint := _of_hydra(key):
        return f"There is no key '{key}'.{hint}"
    own = key.split(".")[0] == "hydra"
    try:
        config = composed([g for g in groups if g.split("=")[0] != key], hydra=own)
    except COMPOSING:  # one of them is wrong too, or a sweep over choices
        config = composed([g for g in groups if own and g.startswith(("hydra/", "hparams="))], hydra=own)
    other = _elsewhere(key) if own and missing_part(".".join(key.split(".")[:3]), config) else ""
    return other or missing_part(key, config) or f"The key '{key}' cannot be set this way."


def _of_hydra(key: str) -> str:
    """The hint for launcher=ray, hydra/sweper=optuna, launcher.devices=cpu; "" for other keys."""
    word, dot, rest = key.removeprefix("hydra/").partition(".")
    near = get_close_matches(word, ("launcher", "sweeper"), n=1, cutoff=0.8)
    return f" Did you mean 'hydra{dot or '/'}{near[0]}{dot}{rest}'?" if near and not key.startswith("hydra.") else ""


def _elsewhere(key: str) -> str:
    """The sentence for a setting of another launcher or sweeper than the one that was chosen; "" if none has it."""
    group, _, name = key.removeprefix("hydra.").partition(".")
    files = sorted((conf_dir() / "hydra" / group).glob("*.yaml"))
    found = [path.stem for path in files if name.split(".")[0] in OmegaConf.load(path)]
    return f"{key} is a setting of hydra/{group}={' or '.join(found)}; choose that, or leave it out." if found else ""


def missing_part(key: str, config: DictConfig) -> str:
    """The sentence that names the first part of the dotted key that `config` does not have; "" if it has them all."""
    done: list[str] = []
    for part in key.split("."):
        if config is None:
            where = ".".join(done)
            return f"'{where}' is null, so that its part '{part}' cannot be set; give the whole: '{where}={{{part}: ...}}'."
        if not isinstance(config, DictConfig):
            return f"'{'.'.join(done)}' has no part '{part}'; it holds a single value."
        if part not in config:
            known = [str(k) for k in config if not str(k).startswith("_")]
            where = f" in '{'.'.join(done)}'" if done else ""
            hint = nearest(part, known) or f" It is empty; +{key}=... puts it there."
            return f"There is no key '{part}'{where}.{hint}"
        done.append(part)
        config = OmegaConf.select(config, part)
    return ""
