"""The comparison as a run of Weights & Biases: tables of the groups, of the verdicts and of the classes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from shlex import quote
from typing import Any

from seglab.compare.answer import Comparison
from seglab.compare.sentences import needed, sentence, short
from seglab.errors import ConfigError, shown, visible
from seglab.stats.verdicts import Verdict
from seglab.weights_and_biases import check_project, is_offline, staged

JUDGED = ("verdict", "difference", "low", "high", "p", "p adjusted", "detectable", "seeds needed")
Table = tuple[list[str | int], list[list[Any]]]  # as W&B types them


def track(found: Comparison, project: str) -> str:
    """Log the comparison to a project; one line that says where it is. ConfigError where W&B refuses."""
    check_project(project, "--wandb")
    offline = is_offline("auto", "--wandb")
    os.environ.setdefault("WANDB_SILENT", "true")  # read when wandb is first used
    import wandb

    settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
    asked = {"baseline": found.baseline, "margin": found.margin, "monitor": found.monitor, "pairs": found.pairs}
    try:
        with wandb.init(
            project=project, job_type="compare", name=name(found), mode="offline" if offline else "online", settings=settings,
            config={**asked, "runs": [{"group": visible(row.name), "folders": row.folders} for row in found.rows]},
        ) as run:  # fmt: skip
            made = {"groups": groups(found), "verdicts": verdicts(found), "classes": classes(found)}
            tables = {f"compare/{key}": wandb.Table(columns=head, data=rows) for key, (head, rows) in made.items() if rows}
            with staged(run):
                run.log(tables)
            run.summary.update(summary(found))
            place = run.url or str(Path(run.dir).parent)
    except wandb.errors.Error as error:
        raise ConfigError(f"--wandb: Weights & Biases refused ({' '.join(str(error).split())[:200]}).") from error
    if offline:
        return f"W&B: {shown(place)}, project {project}; upload with: wandb sync {quote(shown(place))}"
    return f"W&B: {place}"


def name(found: Comparison) -> str:
    """What the run is called: the groups, as far as there is room."""
    text = " vs ".join(visible(row.name) for row in found.rows)
    return text if len(text) <= 100 else f"{len(found.rows)} groups against {visible(found.baseline)}"[:100]


def summary(found: Comparison) -> dict[str, Any]:
    """What stands at the top of the page."""
    named = {"best": found.best and visible(found.best), "baseline": visible(found.baseline), "monitor": found.monitor}
    counted = {"groups": len(found.rows), "runs": sum(row.seeds for row in found.rows), "images": found.images}
    words = [verdict[0].word for verdict in found.verdicts.values()]
    told = {f"verdicts/{word}": words.count(word) for word in ("better", "worse", "equivalent", "unclear")} if words else {}
    notes = [visible(note) for note in found.notes]
    return {**{k: v for k, v in named.items() if v}, **counted, **told, **({"notes": notes} if notes else {})}


def groups(found: Comparison) -> Table:
    """A row for each group: its settings, test mIoU with its 95 % interval, validation, cost, whether it is the best."""
    axes = list(dict.fromkeys(key for row in found.rows for key in row.axes))
    columns: list[str | int] = [
        "group", *map(visible, axes), "n", "test mIoU", "±95 %", "low", "high", visible(found.monitor or "val"), "params",
        "images/s", "seconds", "best",
    ]  # fmt: skip
    rows = [
        [
            visible(row.name), *(visible(row.axes.get(key, "")) for key in axes), row.seeds,
            *map(_known, (row.test, row.half, row.test - row.half, row.test + row.half)),
            *map(_known, (row.val, row.params, row.speed, row.seconds)), row.name == found.best,
        ]
        for row in found.rows
    ]  # fmt: skip
    return columns, rows


def verdicts(found: Comparison) -> Table:
    """A row for each group but the baseline: the verdict on test mIoU, and how a person would say it."""
    base = visible(found.baseline)
    rows = [
        [
            visible(name), base, *_judged(verdict, found.margin),
            sentence(visible(name), base, verdict, found.margin),
        ]
        for name, (verdict, *_) in found.verdicts.items()
    ]  # fmt: skip
    return ["group", "baseline", *JUDGED, "in words"], rows


def classes(found: Comparison) -> Table:
    """A row for each group and class: IoU, and the verdict against the baseline where there is one."""
    rows = []
    for row in found.rows:
        judged = found.verdicts[row.name][1:] if row.name in found.verdicts else []
        for place, label in enumerate(found.classes):
            told = _judged(judged[place], found.margin) if judged else ["baseline", *[None] * (len(JUDGED) - 1)]
            rows.append([visible(row.name), visible(label), _known(row.classes[place]), *told])
    return ["group", "class", "IoU", *JUDGED], rows


def _judged(verdict: Verdict, margin: float) -> list[Any]:
    numbers = (verdict.difference, verdict.low, verdict.high, verdict.p, verdict.adjusted, verdict.detectable)
    return [short(verdict, margin), *map(_known, numbers), needed(verdict)]


def _known(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
