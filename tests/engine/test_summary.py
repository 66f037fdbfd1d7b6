"""What a run says of its speed, and when it gives advice."""

from io import StringIO

from rich.console import Console

from seglab.engine.summary import speed


def said(numbers, cached=False):
    out = StringIO()
    speed(Console(file=out, width=110), numbers, cached)
    return out.getvalue().strip()


def test_a_run_that_waits_is_told_what_helps():
    assert said({"train_images_per_s": None, "data_wait_share": None}) == ""
    assert said({"train_images_per_s": 41.26, "data_wait_share": 0.031}) == (
        "speed    41.3 images/s in training; 3 % of the time waiting for data"
    )
    assert said({"train_images_per_s": 41.26, "data_wait_share": 0.5}).endswith(
        "data: raise data.num_workers, or data.cache=ram"
    )
    assert said({"train_images_per_s": 41.26, "data_wait_share": 0.5}, cached=True).endswith("data: raise data.num_workers")
