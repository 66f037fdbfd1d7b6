"""What people see of a sweep: every event once, nothing that a terminal would obey, no higher than the screen, the best first."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.live import Live

from seglab.sweep import columns, words
from seglab.sweep.ending import report
from seglab.sweep.folder import Sweep
from seglab.sweep.table import Table
from seglab.sweep.trial import Trial

EVIL = "\x1b]0;owned\x07\x1b[2J[red]x[/red]:car:\nnext\u202e"


class Two:
    """A backend with two devices."""

    def describe(self) -> str:
        return "devices 0, 1"

    def slots(self) -> int:
        return 2


def trial(number: int, state="waiting", score=None, epoch=0, **more) -> Trial:
    made = Trial(
        number, [], {"loss": f"l{number}"}, str(number), state=state, score=score, epoch=epoch, epochs=15, monitor="val/iou"
    )
    made.attempts, made.place, made.seconds = int(state != "waiting"), "0", 41.0
    for key, value in more.items():
        setattr(made, key, value)
    return made


def sweep_of(*trials: Trial, path: Path = Path("multirun/a/b"), total: int | None = None) -> Sweep:
    return Sweep(path, ["loss=..."], trials=list(trials), total=total or len(trials))


def paper() -> Console:
    return Console(file=io.StringIO(), highlight=False)


def screen(width=100, height=30) -> Console:
    return Console(
        file=io.StringIO(), highlight=False, force_terminal=True, width=width, height=height, color_system=None, _environ={}
    )


def said(out: Console) -> str:
    return out.file.getvalue()  # type: ignore[attr-defined]


def reported(*trials: Trial, out: Console | None = None, **more) -> str:
    out = out or paper()
    report(sweep_of(*trials, **more), out)
    return said(out)


# --- lines


def test_without_a_terminal_each_event_is_one_line_and_epochs_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = trial(0, "running", 0.5, 1), trial(1, "finished", 0.81234, 15)
    halved = trial(2, "failed", changed=["data.batch_size=2"], error="OutOfMemoryError: memory")
    out = paper()
    table = Table(sweep_of(one, two, halved), Two(), out)
    (tmp_path / "multirun/a/b/2").mkdir(parents=True)
    (tmp_path / "multirun/a/b/2/output.log").touch()
    with table.shown():
        for event in ("started", "epoch", "epoch", "goes on", "pruned"):
            table.event(one, event)
            table.update()
        table.event(two, "finished")
        for event in ("halved", "again", "again", "failed"):
            table.event(halved, event)
    head, before, *lines = said(out).splitlines()
    assert head == "seglab 0.1.0  sweep of 3 trials on devices 0, 1   multirun/a/b"
    assert before == "  1 of 3 was done before"
    assert lines == [
        "  0  loss=l0  started on 0",
        "  0  loss=l0  goes on after epoch 1 on 0",
        "  0  loss=l0  pruned    val/iou 0.5000  1 of 15 epochs  41 s",
        "  1  loss=l1  finished  val/iou 0.8123  15 epochs  41 s",
        "  2  loss=l2  ran out of memory, and is started again with half the batch:  data.batch_size=2",
        "  2  loss=l2  failed, and is started again (retry 1)  OutOfMemoryError: memory",
        "  2  loss=l2  failed, and is started again (retry 2)  OutOfMemoryError: memory",
        "  2  loss=l2  failed    OutOfMemoryError: memory  (multirun/a/b/2/output.log)",
    ]


def test_a_sentence_of_any_length_is_one_line_without_a_terminal():
    long = "ConfigError: " + "word " * 200
    bad = trial(0, "failed", error=long)
    out = paper()
    Table(sweep_of(bad), Two(), out).event(bad, "failed")
    assert len(said(out).splitlines()) == 1
    assert long.strip() in said(out)
    assert long.strip() in reported(bad)


# --- hostile words


@pytest.mark.parametrize("terminal", [True, False])
def test_words_of_users_and_logs_are_inert_and_whole(terminal):
    out = screen(width=1000) if terminal else paper()
    states = ("failed", "finished", "running", "pruned")
    trials = [trial(n, state, 0.5, 3, axes={EVIL: EVIL}, error=EVIL, place=EVIL, changed=[EVIL], folder=EVIL, monitor=EVIL)
              for n, state in enumerate(states)]  # fmt: skip
    sweep = sweep_of(*trials, path=Path(EVIL.replace("/", "")))
    table = Table(sweep, Two(), out)
    for one in trials:
        for event in ("started", "again", "halved", "goes on", one.state):
            table.event(one, event)
    out.print(table.picture())
    report(sweep, out)
    text = said(out)
    for sequence in ("\x1b", "\x07", "\u202e", "🚗", "\r"):
        assert sequence not in text
    assert "[red]x[/red]:car:" in text
    assert not any(line.strip().startswith("next") for line in text.splitlines())


# --- the live table


@pytest.mark.parametrize("height", [3, 8, 9, 12, 24, 50])
@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("running", [0, 4, 300])
def test_the_table_is_never_higher_than_the_terminal(width, height, running):
    out = screen(width, height)
    trials = [trial(n, "running" if n < running else "finished", 0.5, 3, axes={"model.of.long.name": "x" * 90, "b": EVIL}) for n in range(500)]  # fmt: skip
    table = Table(sweep_of(*trials), Two(), out)
    table.live = Live(console=out)
    for one in trials[running:]:
        table.event(one, "finished")
    lines = out.render_lines(table.picture(), out.options)
    assert len(lines) < height or len(lines) == 1
    assert "500" in "".join(segment.text for segment in lines[-1])


def test_those_at_work_come_first_then_the_latest_that_ended():
    out = screen(height=12)  # four rows
    trials = [
        trial(0, "finished", 0.3, 15),
        trial(1, "finished", 0.4, 15),
        trial(2, "running", 0.2, 3),
        trial(3, "running", 0.1, 3),
        trial(4),
    ]
    table = Table(sweep_of(*trials), Two(), out)
    table.live = Live(console=out)
    table.event(trials[0], "finished")
    table.event(trials[1], "finished")
    out.print(table.picture())
    text = said(out)
    assert [text.index(f" l{n} ") for n in (2, 3, 1, 0)] == sorted(text.index(f" l{n} ") for n in (2, 3, 1, 0))
    assert " l4 " not in text
    assert "2 of 5 done · 2 running · 1 waiting · about" in text
    assert "best: val/iou 0.4000, trial 1  loss=l1" in text


def test_a_trial_that_will_be_tried_again_waits():
    one = trial(0, "failed", error="x")
    table = Table(sweep_of(one), Two(), paper())
    table.event(one, "again")
    assert table._state(one) == "waiting"
    table.event(one, "goes on")
    assert table._state(one) == "failed"


def test_the_time_left_follows_from_epochs_and_finished_trials():
    done, one, two = trial(0, "finished", 0.5, 15, seconds=100.0), trial(1, "running", 0.1, 5), trial(2, "running")
    table = Table(sweep_of(done, one, two, trial(3), trial(4)), Two(), paper())
    one.seconds = 30.0
    table.event(one, "epoch")
    one.epoch, one.seconds = 10, 60.0
    table.event(one, "epoch")
    one.seconds, two.seconds = 66.0, 20.0
    assert table._left(one) == pytest.approx(24)  # 5 epochs of 6 s, 6 s of them gone
    assert table.left() == pytest.approx((24 + 80 + 2 * 100) / 2)
    assert Table(sweep_of(trial(0, "running")), Two(), paper()).left() is None


def test_it_is_drawn_once_a_second_by_no_thread_and_goes_away(monkeypatch):
    import threading

    now, drawn = [0.0], []
    monkeypatch.setattr("seglab.sweep.table.time.monotonic", lambda: now[0])
    out, threads = screen(), threading.active_count()
    table = Table(sweep_of(trial(0, "running")), Two(), out)
    monkeypatch.setattr(table, "picture", lambda: drawn.append(now[0]) or "picture")
    with table.shown():
        for tick in range(100):
            now[0] = tick / 10
            table.update()
        assert threading.active_count() == threads
    assert drawn == pytest.approx(list(range(10)), abs=0.11)
    assert said(out).endswith("\x1b[2K")
    assert table.live is None


# --- the report


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=30), st.booleans())
def test_the_best_come_first_in_the_direction_of_the_monitor(scores, higher):
    trials = [trial(n, "finished", score, 15, higher=higher) for n, score in enumerate(scores)]
    order = words.ranked(random.Random(0).sample(trials, len(trials)))
    found = [t.score for t in order if t.score is not None]
    assert found == sorted(found, reverse=higher)
    assert all(t.score is None for t in order[len(found) :])
    assert sweep_of(*trials).best() in (order[0], None) or order[0].score == sweep_of(*trials).best().score  # type: ignore[union-attr]


def test_the_report_has_ten_and_says_how_many_more_there_are():
    text = reported(*(trial(n, "finished", n / 100, 15) for n in range(25)))
    rows = [line.split()[0] for line in text.splitlines() if "multirun/a/b/" in line and line.split()[0].isdigit()]
    assert rows == [str(n) for n in range(24, 14, -1)]
    assert "15 more finished" in text


def test_scores_of_different_monitors_are_not_ranked():
    trials = [
        trial(0, "finished", 0.1, 15),
        trial(1, "finished", 0.9, 15, monitor="val/loss", higher=False),
        trial(2, "finished", 0.5, 15),
    ]
    text = reported(*trials)
    assert [line.split()[0] for line in text.splitlines() if "multirun/a/b/" in line and line.split()[0].isdigit()] == [
        "0",
        "1",
        "2",
    ]
    assert "val/loss 0.9000" in text
    assert "val/iou 0.5000" in text
    assert "best" not in text


def test_the_report_names_failures_what_was_pruned_and_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = trial(0, "failed", error="seglab.errors.ConfigError: loss 'bce' is for binary masks; use ce.")
    changed = trial(3, "finished", 0.5, 15, changed=["data.batch_size=2"])
    sweep = sweep_of(bad, trial(1, "pruned", 0.1, 4), trial(2, "pruned", 0.1, 5), changed, trial(4, "interrupted"))
    sweep.folder(bad).mkdir(parents=True)
    (sweep.folder(bad) / "output.log").touch()
    sweep.write()
    report(sweep, out := paper())
    text = said(out)
    assert "l0    ConfigError: loss 'bce' is for binary masks; use ce.  multirun/a/b/0/output.log" in text
    assert "2 pruned: 21 epochs saved" in text
    assert "Trial 3 ran out of memory, and ended with data.batch_size=2" in text
    assert "best         -> 3: loss=l3" in text
    assert "python -m seglab.train -m sweep.resume=multirun/a/b" in text


@pytest.mark.parametrize("state", ["finished", "failed", "pruned", "waiting", "running"])
@pytest.mark.parametrize("out", [paper, screen])
def test_a_sweep_of_one_trial_without_axes_and_score(state, out):
    text = reported(trial(0, state, axes={}, monitor="auto"), out=out())
    assert "multirun/a/b/" in text
    assert "None" not in text
    assert ("sweep.resume" in text) == (state in ("failed", "waiting", "running"))


def test_a_sweep_without_trials():
    assert "multirun/a/b/" in reported()
    Table(sweep_of(), Two(), out := screen()).picture()
    with Table(sweep_of(), Two(), out).shown():
        pass


@pytest.mark.parametrize("width", [80, 100])
def test_narrow_terminals_get_whole_sentences_and_paths(width):
    out = screen(width)
    bad = trial(
        0,
        "failed",
        error="ConfigError: " + "word " * 40,
        axes={"model": "mask_rcnn", "optimizer.lr": "0.000123456789", "c": "x" * 30},
    )
    text = reported(bad, out=out)
    assert max(map(len, text.splitlines()[:-4])) <= width
    assert text.count("word") == 40
    assert "0.0001235" in text


def test_columns_an_axis_while_they_are_few():
    few, many = [trial(0, axes={"a.x": "1", "b": "2"})], [trial(0, axes={key: "1" for key in "abcd"})]
    assert [c.name for c in columns.axes(few, 100)[0]] == ["a.x", "b"]
    assert [c.name for c in columns.axes(many, 120)[0]] == ["settings"]
    assert columns.axes(many, 120)[1](many[0]) == ["a=1 b=1 c=1 d=1"]
    assert [c.name for c in columns.axes(many, 80)[0]] == ["a, b, c, d"]
    assert columns.axes(many, 80)[1](many[0]) == ["1  1  1  1"]
    assert columns.axes([trial(0, axes={})], 80)[0] == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (5900, "98 min"), (7200, "2.0 h"), (2e5, "2.3 days")]
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text
