"""The interval of a difference: its level, coverage and power in a small simulation, and what must not change it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.stats.difference import Difference
from seglab.stats.scores import Scores

spec = importlib.util.spec_from_file_location("benchmark_verdicts", ROOT / "benchmarks" / "verdicts.py")
simulation = importlib.util.module_from_spec(spec)
__import__("sys").modules[spec.name] = simulation
spec.loader.exec_module(simulation)


def differences(world, pairs=300, seed=3):
    """Differences of simulated pairs."""
    counts, clip = simulation.draw(world, pairs, np.random.default_rng(seed))
    return [Difference.of(*(Scores.of(side, simulation.SCORED, clip) for side in pair)) for pair in counts]


def shown(found, truth=0.0, power=None):
    """The share whose interval misses the truth."""
    return np.mean([abs(d.value[0] - truth) > d.half()[0] for d in found])


@pytest.mark.parametrize("name", ["same model", "other model", "other, clips of 5"])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_level_is_held(name, seeds):
    found = differences(replace(simulation.WORLDS[name], seeds=seeds))
    assert shown(found) <= 0.06
    assert 0.6 < np.mean([d.half()[0] for d in found]) / (2 * np.std([d.value[0] for d in found])) < (5 if seeds == 2 else 1.8)


def test_without_either_source_of_noise_the_level_is_lost():
    """The test above can fail: images alone, or seeds alone, reject far too often."""
    images_only = [replace(d, single=0 * d.single) for d in differences(simulation.WORLDS["same, noisy seeds"])]
    assert shown(images_only) > 0.3
    seeds_only = [replace(d, images=0 * d.images) for d in differences(simulation.WORLDS["other, clips of 5"])]
    assert shown(seeds_only) > 0.2
    apart = replace(simulation.WORLDS["other, clips of 5"], images=100)
    counts, _ = simulation.draw(apart, 300, np.random.default_rng(3))
    unclustered = [Difference.of(*(Scores.of(side, simulation.SCORED) for side in pair)) for pair in counts]
    assert shown(unclustered) > shown(differences(apart)) + 0.02


@pytest.mark.slow
def test_intervals_cover_a_planted_difference_and_power_rises_with_it():
    power = []
    for effect in (0.0, 0.15, 0.4):
        world = replace(simulation.WORLDS["same model"], seeds=5, effect=effect)
        truth = np.mean([d.value[0] for d in differences(world, 2000, 9)]) if effect else 0.0
        found = differences(world)
        assert 0.92 <= 1 - shown(found, truth) <= 0.99
        power.append(np.mean([d.p()[0] <= 0.05 for d in found]))
    assert power[0] < 0.07
    assert power[0] + 0.2 < power[1] < power[2]
    assert power[2] > 0.95


@pytest.mark.parametrize(("name", "most"), [("same model", 1.4), ("other model", 1.17)])
def test_the_variance_is_right_on_average(name, most):
    """Seed x image is in what seeds differ by and in what images differ by; counted twice the sums are 1.8 and 1.22.

    Where models are the same the noise of images alone is 0, and an estimate that is never negative is a little above it.
    """
    world = replace(simulation.WORLDS[name], seeds=3, seed=0.02, seed_class=0.02)
    found = differences(world, 1000)
    estimated = np.mean([(d.single.sum(0) / 3 + d.images)[0] for d in found])
    assert 0.9 < estimated / np.var([d.value[0] for d in found]) < most


@pytest.mark.slow
def test_the_detectable_difference_is_shown_four_times_in_five():
    world = replace(simulation.WORLDS["same model"], seeds=5, images=60)
    detectable = np.median([d.half(power=0.8)[0] for d in differences(world, 200)])
    made, _ = simulation.planted(world, 100 * detectable)
    assert 0.7 < np.mean([d.p()[0] <= 0.05 for d in differences(made)]) < 0.9


def scores(seed, runs, images=12, classes=3, cluster=None):
    counts = np.random.default_rng(seed).integers(0, 60, (runs, images, classes, 3))
    return counts, Scores.of(counts, range(classes), cluster)


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_swapping_the_sides_flips_the_sign_and_order_changes_nothing(seed, one, other):
    (a, sa), (b, sb) = scores(seed, one), scores(seed + 1, other)
    ab, ba = Difference.of(sa, sb), Difference.of(sb, sa)
    np.testing.assert_allclose(ab.value, -ba.value)
    np.testing.assert_allclose(ab.half(), ba.half())
    np.testing.assert_allclose(ab.p(), ba.p())
    order = np.random.default_rng(seed).permutation(12)
    mixed = Difference.of(Scores.of(a[::-1, order], range(3)), Scores.of(b[:, order], range(3)))
    np.testing.assert_allclose(mixed.half(), ab.half())


def test_copies_of_images_in_one_cluster_bring_nothing():
    a, b = scores(1, 3)[0], scores(2, 3)[0]
    once = Difference.of(Scores.of(a, range(3)), Scores.of(b, range(3)))
    labels = np.repeat(np.arange(12), 4)
    sides = [Scores.of(np.repeat(x, 4, 1), range(3), labels) for x in (a, b)]
    np.testing.assert_allclose(Difference.of(*sides).half(), once.half())
    blind = Difference.of(*(Scores.of(np.repeat(x, 4, 1), range(3)) for x in (a, b)))
    assert (blind.half() <= once.half()).all(), "copies that pass for images of their own"


def test_p_is_the_level_at_which_the_interval_ends_at_zero():
    found = Difference.of(scores(1, 3)[1], scores(2, 2)[1])
    for q, p in enumerate(found.p()):
        assert found.half(p)[q] == pytest.approx(abs(found.value[q]), rel=1e-5)


def test_identical_runs_differ_by_nothing():
    one = scores(1, 1)[1]
    found = Difference.of(one, one)
    assert (found.value == 0).all()
    assert (found.half() == 0).all()
    assert (found.p() == 1).all()
    assert not found.seeds_judged


def test_one_image_shows_no_noise_and_a_class_needs_two():
    (a, sa), (b, sb) = scores(1, 2, images=1), scores(2, 2, images=1)
    assert np.isnan(Difference.of(sa, sb).p()).all()
    a, b = scores(1, 2)[0], scores(2, 2)[0]
    a[:, 1:, 1], b[:, 1:, 1] = 0, 0
    a[:, :, 2], b[:, :, 2] = 0, 0
    a[:, 0, 1], b[:, 0, 1] = [5, 1, 1], [4, 2, 2]
    p = Difference.of(Scores.of(a, range(3)), Scores.of(b, range(3))).p()
    assert np.isfinite(p[:2]).all()
    assert np.isnan(p[2:]).all()


def test_a_single_run_borrows_the_spread_of_the_other_side():
    several, single = scores(1, 3)[1], scores(2, 1)[1]
    found = Difference.of(several, single)
    assert (found.borrowed, found.seeds_judged, found.known) == (True, True, (2, 2))
    np.testing.assert_allclose(found.single[0], found.single[1])


def test_more_seeds_are_asked_for_only_where_they_help():
    noisy = Difference(np.array([0.02]), (2, 2), (1, 1), np.full((2, 1), 1e-4), np.array([1e-6]), np.array([99]))
    needed = noisy.seeds_needed(0.05, 0.8)
    assert noisy.half(0.05, 0.8, needed.astype(int)) <= 0.02 < noisy.half(0.05, 0.8, needed.astype(int) - 1)
    assert replace(noisy, images=np.array([1e-3])).seeds_needed(0.05, 0.8) == np.inf
    assert replace(noisy, value=np.array([0.0031])).seeds_needed(0.05, 0.8) == 101
