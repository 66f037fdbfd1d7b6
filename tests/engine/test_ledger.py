"""The ledger says what training showed: it equals a recount of the batches, and shares are met in a whole run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from conftest import TINY

from seglab import results
from seglab.config import load, plain
from seglab.engine import assemble
from seglab.engine.ledger import LedgerCsv

SAMPLING = ["data.train=20", "data.crop=[24,24]", "data.sampling={spindle: 0.35}", "trainer.max_epochs=2", "test=false"]


def table(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "ledger.csv").open()))


@pytest.mark.parametrize("more", [[], ["mix=cutmix"], ["data.batch_size=7"]])
def test_the_ledger_equals_a_recount_and_the_share_is_met(train, more):
    done = train(*SAMPLING, *more)
    config = plain(load([*TINY, *SAMPLING, *more]))
    loader = assemble.datamodule(config, assemble.source(config)).train_dataloader()
    rows = table(done["run"])
    assert [(row["epoch"], row["class"]) for row in rows] == [(str(e), c) for e in (0, 1) for c in done["data"]["classes"]]
    for epoch in (0, 1):
        loader.batch_sampler.set_epoch(epoch)
        masks = torch.cat([batch["mask"] for batch in loader])
        for k, row in enumerate(rows[3 * epoch : 3 * epoch + 3]):
            assert int(row["samples"]) == len(masks)
            assert int(row["pixels"]) == int((masks == k).sum())
            assert int(row["images"]) == int((masks == k).flatten(1).any(1).sum())
            assert row["objects"] == ""
    aimed = [sum(int(r["aimed"]) for r in rows if r["class"] == c) for c in done["data"]["classes"]]
    assert aimed[:2] == [0, 0]
    if not more:
        assert aimed[2] == 14  # of 40
    told = results.read_results(done["run"])["ledger"]
    assert (told["epochs"], told["samples"]) == (2, sum(int(r["samples"]) for r in rows[::3]))
    for name, row in told["per_class"].items():
        assert row == {key: sum(int(r[key]) for r in rows if r["class"] == name) for key in ("pixels", "images", "aimed")}


def test_objects_are_counted_where_batches_have_them(train):
    done = train("instances=components", "data.crop=[24,24]", "test=false")
    config = plain(load([*TINY, "instances=components", "data.crop=[24,24]"]))
    source = assemble.source(config)
    batches = list(assemble.datamodule(config, source, instances=True).train_dataloader())
    expected = [0, 0, 0]
    for batch in batches:
        for ids, labels in zip(batch["instances"], batch["labels"], strict=True):
            for number in ids.unique().tolist():
                expected[int(labels[number - 1])] += number > 0
    assert [int(row["objects"]) for row in table(done["run"])] == expected
    assert sum(expected) > 0


def test_a_run_that_began_before_there_was_a_ledger_counts_from_where_it_goes_on(train, tmp_path):
    train("trainer.max_epochs=1", "test=false", "scheduler=constant")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["callbacks"][LedgerCsv.__qualname__], content["exact"]["ranks"][0]["ledger"]
    torch.save(content, path)
    done = train("trainer.max_epochs=3", "test=false", "scheduler=constant", "resume=auto")
    assert [row["epoch"] for row in table(done["run"])[::3]] == ["1", "2"]
    assert done["ledger"] is None
