"""The confusion engine against brute force, against torchmetrics, and against its own laws."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import BinaryJaccardIndex, MulticlassJaccardIndex, MultilabelJaccardIndex

from seglab.errors import DataError
from seglab.metrics.confusion import Confusion, _scattered, histogram
from seglab.types import Spec

quick = settings(max_examples=60, deadline=None)


def spec_of(k, mode="multiclass", ignore=255):
    return Spec(classes=tuple(f"c{i}" for i in range(k)), mode=mode, ignore_index=ignore)


@st.composite
def cases(draw, mode="multiclass", fewest=1):
    """A Spec, ids predicted and true (with void, and classes that may be absent from either), as B H W or B K H W."""
    k = 2 if mode == "binary" else draw(st.integers(fewest if mode == "multilabel" else 2, 9))
    ids = 2 if mode == "multilabel" else k
    ignore = draw(st.sampled_from([255, -1, -100, ids, ids + 1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), *((k,) if mode == "multilabel" else ()), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    pred, target = (rng.choice(rng.integers(0, ids, draw(st.integers(1, ids))), shape) for _ in range(2))
    target[rng.random(shape) < draw(st.sampled_from([0, 0.2, 0.9, 1]))] = ignore
    return spec_of(k, mode, ignore), torch.from_numpy(pred), torch.from_numpy(target)


def measure(spec, pred, target, per_image=False, index=None):
    metric = Confusion(spec, per_image)
    metric.update(pred, target, torch.arange(len(pred)) if index is None else index)
    return metric


def brute_force(spec, pred, target):
    """tp, fp, fn by class, correct and valid, by asking every pixel."""
    tp, fp, fn = np.zeros((3, spec.num_classes), int)
    correct = valid = 0
    many = spec.mode == "multilabel"
    for place in np.ndindex(*target.shape):
        p, t = int(pred[place]), int(target[place])
        if t == spec.ignore_index:
            continue
        valid += 1
        correct += p == t
        for k in [place[1]] if many else range(spec.num_classes):
            said, true = (p == 1, t == 1) if many else (p == k, t == k)
            tp[k] += said and true
            fp[k] += said and not true
            fn[k] += true and not said
    return tp, fp, fn, correct, valid


any_case = st.one_of(cases(), cases("binary"), cases("multilabel"))


@quick
@given(any_case, st.booleans())
def test_equals_a_loop_over_pixels(case, per_image):
    spec, metric = case[0], measure(*case, per_image)
    tp, fp, fn, correct, valid = brute_force(*case)
    table, found = metric.per_class(), metric.compute()
    lists = {name: [] for name in ("iou", "dice", "precision", "recall")}
    for k, name in enumerate(spec.classes):
        expected = dict.fromkeys(lists, np.nan)
        if tp[k] + fp[k] + fn[k]:
            expected = {
                "iou": tp[k] / (tp[k] + fp[k] + fn[k]),
                "dice": 2 * tp[k] / (2 * tp[k] + fp[k] + fn[k]),
                "precision": tp[k] / (tp[k] + fp[k]) if tp[k] + fp[k] else 0,
                "recall": tp[k] / (tp[k] + fn[k]) if tp[k] + fn[k] else 0,
            }
        assert table[name].pop("support") == tp[k] + fn[k]
        np.testing.assert_equal(table[name], expected)
        if k in spec.scored and tp[k] + fp[k] + fn[k]:
            for key, values in lists.items():
                values.append(expected[key])
    expected = {key: np.mean(values) if values else np.nan for key, values in lists.items()}
    expected["accuracy"] = correct / valid if valid else np.nan
    assert tuple(found) == Confusion.names
    np.testing.assert_allclose([found[n].item() for n in found], [expected[n] for n in found], rtol=1e-14)


@quick
@given(cases())
def test_equals_torchmetrics_multiclass(case):
    spec, pred, target = case
    ours = measure(*case)
    for average in ("none", "macro"):
        theirs = MulticlassJaccardIndex(spec.num_classes, average=average, ignore_index=spec.ignore_index)(pred, target)
        if average == "none":  # torchmetrics gives an absent class 0
            mine = torch.tensor([row["iou"] for row in ours.per_class().values()]).nan_to_num(0)
        else:
            mine = ours.compute()["iou"].nan_to_num(0)
        torch.testing.assert_close(mine.float(), theirs.nan_to_num(0))  # NaN where all is void


@quick
@given(cases("binary"))
def test_equals_torchmetrics_binary(case):
    spec, pred, target = case
    theirs = BinaryJaccardIndex(ignore_index=spec.ignore_index)(pred, target)
    torch.testing.assert_close(measure(*case).compute()["iou"].nan_to_num(0).float(), theirs.nan_to_num(0))


@quick
@given(cases("multilabel", fewest=2))  # torchmetrics refuses a single label
def test_equals_torchmetrics_multilabel(case):
    spec, pred, target = case
    theirs = MultilabelJaccardIndex(spec.num_classes, average="none", ignore_index=spec.ignore_index)(pred, target)
    mine = torch.tensor([row["iou"] for row in measure(*case).per_class().values()])
    torch.testing.assert_close(mine.nan_to_num(0).float(), theirs.nan_to_num(0))


@quick
@given(any_case, st.randoms(use_true_random=False), st.booleans())
def test_batches_order_and_replicas_do_not_matter(case, random, per_image):
    spec, pred, target = case
    whole = measure(*case, per_image)
    order = list(range(len(pred)))
    random.shuffle(order)
    one, two = Confusion(spec, per_image), Confusion(spec, per_image)
    for image in order:
        random.choice([one, two]).update(pred[[image]], target[[image]], torch.tensor([image]))
    if not two.update_called:
        one, two = two, one
    one.merge_state(two)
    np.testing.assert_equal(tables_of(one), tables_of(whole))


def tables_of(metric):
    tables = [metric.per_class(), {k: v.item() for k, v in metric.compute().items()}, metric.confusion().tolist()]
    return [*tables, metric.rows().tolist()] if metric.per_image else tables


@quick
@given(any_case, st.integers(0, 3))
def test_a_repeated_image_counts_once(case, again):
    _, pred, target = case
    once, twice = measure(*case, True), measure(*case, True)
    again = min(again, len(pred) - 1)
    twice.update(pred[: again + 1], target[: again + 1], torch.arange(again + 1))
    np.testing.assert_equal(tables_of(twice), tables_of(once))
    assert measure(*case).confusion().sum() == once.confusion().sum()


def test_many_classes_keep_scores_free_of_repeats():
    spec, g = spec_of(70), torch.Generator().manual_seed(0)
    pred, target = torch.randint(0, 70, (2, 3, 16, 16), generator=g)
    once, twice = measure(spec, pred, target, True), measure(spec, pred, target, True)
    twice.update(pred[:1], target[:1], torch.tensor([0]))
    assert twice.per_class() == once.per_class() == measure(spec, pred, target).per_class()
    assert twice.compute() == once.compute()
    np.testing.assert_array_equal(twice.rows(), once.rows())
    assert twice.confusion().sum() == once.confusion().sum() + 256  # as its docstring says


@quick
@given(any_case, st.integers(0, 2**32 - 1))
def test_what_is_predicted_on_void_changes_nothing(case, seed):
    spec, pred, target = case
    void = target == spec.ignore_index
    other = torch.randint_like(pred, -5, 300, generator=torch.Generator().manual_seed(seed))
    changed = torch.where(void, other, pred)
    np.testing.assert_equal(tables_of(measure(spec, changed, target, True)), tables_of(measure(*case, True)))


@quick
@given(any_case)
def test_void_rows_beside_the_image_change_nothing(case):
    spec, pred, target = case
    padded = torch.nn.functional.pad(target, (1, 2, 0, 1), value=spec.ignore_index)
    wider = torch.nn.functional.pad(pred, (1, 2, 0, 1))
    np.testing.assert_equal(tables_of(measure(spec, wider, padded, True)), tables_of(measure(*case, True)))


@quick
@given(any_case)
def test_the_truth_scores_one_and_dice_follows_iou(case):
    spec, _, target = case
    perfect = measure(spec, torch.where(target == spec.ignore_index, 0, target), target)
    assert all(np.isnan(v) or v == 1 for v in (x.item() for x in perfect.compute().values()))
    for row in measure(*case).per_class().values():
        np.testing.assert_allclose(row["dice"], 2 * row["iou"] / (1 + row["iou"]), rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_integer_types_of_predictions_agree(dtype):
    g = torch.Generator().manual_seed(0)
    pred, target = torch.randint(0, 5, (2, 2, 8, 8), generator=g)
    assert tables_of(measure(spec_of(5), pred.to(dtype), target, True)) == tables_of(measure(spec_of(5), pred, target, True))


def test_uint8_predictions_of_more_classes_than_uint8_holds():
    target = torch.tensor([[[0, 254, 299]]])
    pred = torch.tensor([[[0, 254, 7]]], dtype=torch.uint8)
    assert measure(spec_of(300, ignore=-1), pred, target).compute()["iou"] == pytest.approx(2 / 4)  # classes 0, 254, 299, 7


def test_bool_predictions_of_multilabel():
    pred, target = torch.tensor([[[[True, False]]]]), torch.tensor([[[[1, 1]]]])
    assert measure(spec_of(1, "multilabel"), pred, target).compute()["recall"] == 0.5


def test_constant_prediction_has_the_known_score():
    """Always class 0: its IoU is its share s, the others' 0; so mean IoU s/K, accuracy s, recall 1/K, precision s/K."""
    target = torch.tensor([0] * 6 + [1] * 3 + [2]).view(1, 2, 5)
    metric = measure(spec_of(4), torch.zeros_like(target), target)  # class 3 is absent from both: not in the means
    found = {k: round(v.item(), 12) for k, v in metric.compute().items()}
    assert found == {"iou": 0.2, "dice": 0.25, "accuracy": 0.6, "precision": 0.2, "recall": round(1 / 3, 12)}
    assert metric.confusion()[:, 0].tolist() == [6, 3, 1, 0]


def test_binary_headline_is_the_foreground_and_lists_the_background():
    target, pred = torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([[[0, 0, 1, 1]]])
    metric = measure(spec_of(2, "binary"), pred, target)
    assert metric.compute()["iou"] == 0.5
    assert metric.compute()["accuracy"] == 0.75
    assert metric.per_class()["c0"]["iou"] == pytest.approx(2 / 3)


def test_rows_hold_index_then_counts_by_class():
    target, pred = torch.tensor([[[0, 1]], [[1, 255]]]), torch.tensor([[[1, 1]], [[1, 0]]])
    metric = measure(spec_of(2), pred, target, True, index=torch.tensor([9, 4]))
    assert metric.rows().tolist() == [[4, 0, 0, 0, 1, 0, 0], [9, 0, 0, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match="per_image"):
        measure(spec_of(2), pred, target).rows()


@quick
@given(any_case, st.sampled_from([0, -2, -101, 12, 200, 256, 2**33]), st.booleans())
def test_ids_outside_the_classes_are_reported(case, wrong, per_image):
    spec, pred, target = case
    first = 2 if spec.mode == "multilabel" else spec.num_classes  # 0 stands for the first id that is neither class nor void
    wrong = wrong or first + (spec.ignore_index == first)
    image = len(target) - 1
    bad = target.clone()
    bad[image].view(-1)[0] = wrong
    with pytest.raises(DataError, match=r"^1 mask pixels.*ignore_index") as raised:
        measure(spec, pred, bad, per_image).compute()
    assert (f"image {image} of" in str(raised.value)) == per_image
    target = torch.zeros_like(target)
    wild = pred.clone()
    wild[image].view(-1)[0] = wrong
    with pytest.raises(ValueError, match=r"^1 predicted pixels"):
        measure(spec, wild, target, per_image).compute()


def test_wrong_shapes_and_types_are_refused():
    metric, ids = Confusion(spec_of(3), per_image=True), torch.zeros(2, 4, 4, dtype=torch.int64)
    for arguments, part in {
        (torch.zeros(2, 3, 4, 4), ids, torch.arange(2)): "decode the logits",
        (ids[:, :3], ids, torch.arange(2)): "must both be B H W",
        (ids, ids, None): "needs index",
        (ids, ids, torch.arange(3)): "needs index",
    }.items():
        with pytest.raises(ValueError, match=part):
            metric.update(*arguments)
    with pytest.raises(ValueError, match="B 3 H W"):
        Confusion(spec_of(3, "multilabel")).update(ids, ids)


def test_update_never_waits_for_the_device():
    """A meta tensor has no values: whatever reads one back to the host (.item(), a mask index, bincount) raises."""
    for per_image in (False, True):
        metric = Confusion(spec_of(4), per_image).to("meta")
        batch = torch.zeros(2, 8, 8, dtype=torch.int64, device="meta")
        metric.update(batch, batch, torch.arange(2, device="meta"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.bincount(batch.flatten()).sum().item()


def test_the_counting_of_a_gpu_equals_that_of_a_cpu():
    code = torch.randint(0, 50, (1000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(_scattered(code, 60), histogram(code, 60))
    assert torch.equal(_scattered(code, 60), code.bincount(minlength=60))


def test_a_metric_reset_in_inference_mode_can_be_used_outside():
    batch = torch.zeros(1, 2, 2, dtype=torch.int64)
    metric = measure(spec_of(3), batch, batch, True)
    with torch.inference_mode():
        metric.reset()
        metric.update(batch, batch, torch.tensor([0]))
    metric.update(batch, batch, torch.tensor([1]))
    assert metric.confusion()[0, 0] == 8


def test_reset_and_pickle_and_an_empty_epoch():
    metric = measure(spec_of(3), *torch.zeros(2, 1, 2, 2, dtype=torch.int64), per_image=True)
    assert pickle.loads(pickle.dumps(metric)).compute()["accuracy"] == 1
    metric.compute()
    metric.reset()
    metric.update(torch.ones(1, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([5]))
    assert metric.compute()["accuracy"] == 0
    assert metric.rows()[:, 0].tolist() == [5]
    metric.reset()
    assert np.isnan(metric.compute()["iou"].item())
    assert metric.rows().shape == (0, 10)


REPLICA = """
import os, torch, torch.distributed as dist
from seglab.metrics.confusion import Confusion
from seglab.types import Spec
rank = int(os.environ["RANK"])
dist.init_process_group("gloo", init_method="file://" + os.environ["STORE"], rank=rank, world_size=2)
pred, target = torch.randint(0, 3, (2, 5, 6, 6), generator=torch.Generator().manual_seed(0))
spec = Spec(classes=("a", "b", "c"))
alone = Confusion(spec, per_image=True)
alone.sync = lambda *a, **k: None; alone.unsync = lambda *a, **k: None
for i in range(5):
    alone.update(pred[[i]], target[[i]], torch.tensor([i]))
# five images on two ranks, padded as DistributedSampler does; then all images on rank 0 and none on rank 1
for shares in ([0, 2, 4], [1, 3, 0]), ([0, 1, 2, 3, 4], []):
    metric = Confusion(spec, per_image=True)
    for i in shares[rank]:
        metric.update(pred[[i]], target[[i]], torch.tensor([i]))
    assert metric.compute() == alone.compute() and metric.per_class() == alone.per_class()
    assert (metric.rows() == alone.rows()).all() and (metric.confusion() == alone.confusion()).all()
    assert len(metric.images) == max(len(shares[rank]), 1), "the rank's own state is back after compute"
print("same")
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    env = {**os.environ, "STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    run = lambda rank: subprocess.Popen(  # noqa: E731
        [sys.executable, "-W", "ignore", "-c", REPLICA],
        env={**env, "RANK": rank},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for process in [run("0"), run("1")]:
        out, err = process.communicate(timeout=120)
        assert out.strip() == "same", err
