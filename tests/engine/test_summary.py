"""What a run says of its speed, and when it gives advice."""

from io import StringIO

from rich.console import Console

from seglab.engine.summary import speed


def said(numbers, cached=False):
    out = StringIO()
    speed(Console(file=out, width=80), numbers, cached)
    return out.getvalue().strip()


def test_a_run_that_waits_is_told_what_helps():
    waits = {"train_images_per_s": 41.26, "data_wait_share": 0.5}
    assert said({"train_images_per_s": None, "data_wait_share": None}) == ""
    assert said({**waits, "data_wait_share": 0.031}) == "speed    41.3 images/s in training, 3 % of the time waiting for data"
    assert said(waits).endswith("less with data.num_workers=N or data.cache=ram")
    assert said(waits, cached=True).endswith("less with data.num_workers=N")
