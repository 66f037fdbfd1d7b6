"""Holm's correction by its definition, and the words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglab.stats.difference import Difference
from seglab.stats.verdicts import holm, judge


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_definition_does(p):
    adjusted, levels = holm(np.array(p))
    rejected, order = set(), sorted(range(len(p)), key=lambda n: p[n])
    for step, n in enumerate(order):
        if p[n] * (len(p) - step) > 0.05:
            break
        rejected.add(n)
    assert {n for n in range(len(p)) if adjusted[n] <= 0.05} == rejected
    for n in range(len(p)):
        assert (n in rejected) == (p[n] <= levels[n] and adjusted[n] <= 0.05)
    assert (adjusted >= np.array(p)).all()


def test_holm_on_a_known_case_and_unknown_ones_take_no_part():
    adjusted, levels = holm(np.array([[0.01, np.nan], [0.04, 0.03]]))
    np.testing.assert_allclose(adjusted, [[0.03, np.nan], [0.06, 0.06]])
    np.testing.assert_allclose(levels[[0, 1, 1], [0, 0, 1]], [0.05 / 3, 0.025, 0.025])
    assert np.isnan(holm(np.array([np.nan]))[0]).all()
    np.testing.assert_allclose(holm(np.array([0.01, 0.03]), more=2)[0], [0.04, 0.09])


def one(value, se, df=50):
    return Difference(np.array([value]), (3, 3), (2, 2), np.zeros((2, 1)), np.array([se**2]), np.array([df]))


@pytest.mark.parametrize(
    ("value", "se", "word"),
    [
        (0.05, 0.01, "better"),
        (-0.05, 0.01, "worse"),
        (0.001, 0.001, "equivalent"),
        (0.003, 0.01, "unclear"),
        (0, 0, "equivalent"),
    ],
)
def test_words(value, se, word):
    [[verdict]] = judge([one(value, se)], 0.005)
    assert verdict.word == word
    assert (verdict.low > 0 or verdict.high < 0) == (word in ("better", "worse"))


def test_a_verdict_and_its_interval_agree_after_the_correction():
    pairs = [one(v, 0.01) for v in (0.022, 0.024, 0.05, 0.001)]
    words = [verdict.word for [verdict] in judge(pairs, 0.005)]
    assert words == ["unclear", "unclear", "better", "unclear"], "0.022 and 0.024 would each be shown alone"
    assert all((v.low > 0) == (v.word == "better") for [v] in judge(pairs, 0.005))


def test_small_but_sure_is_better_and_not_equivalent():
    [[verdict]] = judge([one(0.002, 0.0002)], 0.005)
    assert verdict.word == "better"


def test_what_cannot_be_known_stays_unclear():
    [[verdict]] = judge([one(0.1, np.nan)], 0.005)
    assert (verdict.word, verdict.seeds) == ("unclear", None)
    assert np.isnan(verdict.p)
