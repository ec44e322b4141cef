"""Progress without a terminal: a line every 10 s with what is left, none for short loops."""

import pytest

from faig_lab.cli import console


@pytest.mark.parametrize(
    ("announced", "steps", "seconds", "rank", "lines"),
    [
        (8, 8, 4.0, 0, ["loop: 3 of 8, about 20 s left", "loop: 6 of 8, about 8.0 s left"]),
        (3, 3, 3.0, 0, []),  # a short loop
        # Methods with integrals of their own take more steps than the path integral.
        (1, 2, 11.0, 0, ["loop: 1 of 1, about 0.0 s left", "loop: 2 steps done"]),
        (2, 1, 20.0, 1, []),  # further processes say nothing
    ],
)
def test_a_line_every_ten_seconds_says_what_is_left(announced, steps, seconds, rank, lines, monkeypatch, caplog):
    now = [100.0]  # seconds that pass only when the test lets them
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console.processes, "rank", lambda: rank)
    caplog.set_level("INFO")
    with console.progress_bar("loop", announced) as advance:
        for _ in range(steps):
            now[0] += seconds
            advance("faig, 1 %")
    assert [record.getMessage() for record in caplog.records] == lines
