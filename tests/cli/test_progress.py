"""Progress without a terminal: a line every 10 s with what is left, none for short loops."""

import pytest

from faig_lab.cli import console


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test lets them."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_line_every_ten_seconds_says_what_is_left(clock, caplog):
    caplog.set_level("INFO")
    with console.progress_bar("masking", 8) as advance:
        for _ in range(8):
            clock[0] += 4.0
            advance("faig, 1 %")
    assert messages(caplog) == ["masking: 3 of 8, about 20 s left", "masking: 6 of 8, about 8.0 s left"]


def test_a_short_loop_has_no_line(clock, caplog):
    caplog.set_level("INFO")
    with console.progress_bar("masking", 3) as advance:
        for _ in range(3):
            clock[0] += 3.0
            advance("")
    assert messages(caplog) == []


def test_more_steps_than_were_announced_are_counted_without_a_time(clock, caplog):
    """Methods with integrals of their own take more steps than the path integral."""
    caplog.set_level("INFO")
    with console.progress_bar("attribution", 1) as advance:
        for _ in range(2):
            clock[0] += 11.0
            advance("")
    assert messages(caplog) == ["attribution: 1 of 1, about 0.0 s left", "attribution: 2 steps done"]


def test_further_processes_say_nothing(clock, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(console.processes, "rank", lambda: 1)
    with console.progress_bar("masking", 2) as advance:
        clock[0] += 20.0
        advance("")
    assert messages(caplog) == []
