"""Which devices there are, and who has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglab import processes
from seglab.errors import ConfigError
from seglab.sweep import devices
from seglab.sweep.devices import Devices, chosen


@given(
    st.integers(1, 6),
    st.sampled_from(["auto", 1, 2, 0.5, 0.25]),
    st.lists(st.tuples(st.booleans(), st.integers(1, 2)), max_size=40),
)
def test_a_device_is_never_leased_twice(count, per_trial, steps):
    names = [str(n) for n in range(count)]
    made, held = Devices(names, per_trial), []
    for start, size in steps:
        if start:
            try:
                lease = made.lease(size)
            except ConfigError:
                continue
            if lease:
                held.append(lease)
        elif held:
            made.give_back(held.pop(0))
        used = [n for lease in held for n in lease.names]
        assert all(used.count(n) <= made.share for n in names)
        assert all(made.free[n] == made.share - used.count(n) for n in names)


def test_a_trial_gets_as_many_devices_as_it_trains_on():
    made = Devices(["0", "1", "2"])
    assert made.lease(2).names == ("0", "1")
    assert made.lease(2) is None, "one is left, two are needed"
    assert str(made.lease(1)) == "2"
    assert Devices(["0", "1", "2"]).lease(-1).names == ("0", "1", "2")
    assert Devices(["0", "1"], 2).lease(1).names == ("0", "1")


def test_shares_of_a_device_go_to_the_emptiest():
    made = Devices(["0", "1"], 0.5)
    assert [str(made.lease(1)) for _ in range(4)] == ["0", "1", "0", "1"]
    assert made.lease(1) is None
    assert made.slots == 4


def test_cpus_are_one_device_that_can_be_shared(monkeypatch):
    monkeypatch.setenv("SEGLAB_CORES", "8")
    assert (Devices([]).slots, Devices([], 0.25).slots) == (1, 4)
    lease = Devices([], 0.5).lease(2)
    assert (lease.names, lease.cores, lease.threads) == ((), 4, 2), "half of the cores, over two processes"
    assert "CUDA_VISIBLE_DEVICES" not in lease.environment({})


def test_the_threads_of_the_user_and_of_an_earlier_session_stay():
    lease = Devices(["3"]).lease(1)
    assert "OMP_NUM_THREADS" not in lease.environment({"OMP_NUM_THREADS": "1"})
    assert lease.environment({}, threads=7)["OMP_NUM_THREADS"] == "7"
    assert lease.environment({})["CUDA_VISIBLE_DEVICES"] == "3"


def test_trials_share_the_cores_whatever_they_ask_for(monkeypatch):
    monkeypatch.setenv("SEGLAB_CORES", "16")
    for per_trial, count, cores, threads in ((2, 2, 8, 4), ("auto", 1, 4, 4), ("auto", -1, 16, 4), (0.5, 1, 2, 2)):
        lease = Devices(["0", "1", "2", "3"], per_trial).lease(count)
        assert (lease.cores, lease.threads) == (cores, threads)


def test_gpus_are_hidden_from_trials_that_shall_run_on_cpus():
    assert Devices([], hidden=True).lease(1).environment({})["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in Devices([]).lease(1).environment({})


def test_numbers_count_what_is_visible():
    assert chosen([1, 0], {"CUDA_VISIBLE_DEVICES": "4,5"}) == (["5", "4"], True)
    assert chosen("auto", {"CUDA_VISIBLE_DEVICES": "GPU-1a,GPU-2b"}) == (["GPU-1a", "GPU-2b"], True)
    assert chosen("auto", {"CUDA_VISIBLE_DEVICES": ""}) == ([], True)
    assert chosen("cpu", {"CUDA_VISIBLE_DEVICES": "4"}) == ([], True)
    with pytest.raises(ConfigError, match="only 2 GPUs are visible"):
        chosen([2], {"CUDA_VISIBLE_DEVICES": "4,5"})


def test_without_a_word_from_the_machine_numbers_are_taken_as_they_are(monkeypatch):
    monkeypatch.setattr(devices, "visible", lambda environ: None)
    assert chosen([0, 3], {}) == (["0", "3"], False)
    assert chosen("auto", {}) == ([], True)


@pytest.mark.parametrize("asked", ["gpu", [], [0, 0], ["a"], [-1], True, 1.5, None])
def test_what_are_no_devices_is_said(asked):
    with pytest.raises(ConfigError, match=r"hydra.launcher.devices=.*auto, cpu, or a list"):
        chosen(asked, {"CUDA_VISIBLE_DEVICES": "0,1"})


@pytest.mark.parametrize("share", [0, -1, 1.5, "half", True])
def test_what_is_no_share_is_said(share):
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.per_trial"):
        Devices(["0"], share)


def test_a_trial_over_several_devices_takes_no_shares():
    with pytest.raises(ConfigError, match=r"trainer\.devices=2 needs whole devices"):
        Devices(["0", "1"], 0.5).lease(2)


def test_the_doors_own_wish_for_tracebacks_is_not_the_trials():
    told = processes.clean({"HYDRA_FULL_ERROR": "1", "SEGLAB_TRACES": "0", "PATH": "x"})
    assert told == {"HYDRA_FULL_ERROR": "0", "PATH": "x"}
    assert processes.clean({"HYDRA_FULL_ERROR": "1"}) == {"HYDRA_FULL_ERROR": "1"}
