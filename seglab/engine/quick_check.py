"""The doctor at the door of training: errors of the quick check end the run before it begins, warnings are said."""

from __future__ import annotations

import logging
from typing import Any

from seglab.data.checks.findings import Finding, many
from seglab.data.source import Source
from seglab.engine.launch import global_rank
from seglab.errors import DataError, SeglabError

log = logging.getLogger("seglab")


def quick_check(config: dict[str, Any], source: Source) -> None:
    """Look at a sample of the data set (see data.checks.quick), in the first process of a run, unless check=off.

    DataError with the finding that is an error and what mends it.
    """
    if config["check"] == "off" or global_rank():
        return
    from seglab.data.checks import quick

    try:
        verdict = quick.look_over(source, config["data"])
    except SeglabError:
        raise
    except Exception as error:  # whatever ails the doctor, training does not depend on it
        log.debug("the quick check failed", exc_info=True)
        log.warning("the data could not be checked (%s: %s); training goes on", type(error).__name__, error)
        return
    part = f"of {verdict.looked} of {verdict.total} images looked at: " if verdict.looked < verdict.total else ""
    for one in verdict.findings:
        if one.severity == "warning":
            log.warning("%s%s%s", part, one.text, _mended(one))
    errors = [one for one in verdict.findings if one.severity == "error"]
    if errors:
        more = f" and {many(len(errors) - 1, 'error')} more" if errors[1:] else ""
        first = f"{part}{errors[0].text}{_mended(errors[0])}"
        raise DataError(f"{first} (python -m seglab.check shows it{more}; check=off trains nevertheless)")


def _mended(one: Finding) -> str:
    remedy = f'"{one.remedy}"' if one.remedy.startswith("data.") and "'" in one.remedy else one.remedy  # as a shell takes it
    return f" -> {remedy}" if remedy else ""
