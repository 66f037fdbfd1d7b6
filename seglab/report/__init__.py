"""One HTML page about a run or a sweep: no network, nothing executes that a run wrote; no torch."""
