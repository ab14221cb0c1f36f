"""Errors that nobody foresaw, in loops that go on."""

import logging

import pytest

from unimsg.surprises import Surprises


def test_each_kind_is_told_once_and_shows_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    surprises = Surprises(logging.getLogger("unimsg.pigeon"))
    assert surprises.problem is None
    for error in (KeyError("secret"), KeyError("another"), ValueError("secret")):
        assert surprises.tell("pigeon: flying failed", error) == f"pigeon: flying failed: {type(error).__name__}"
    assert surprises.problem == "pigeon: flying failed: ValueError"
    surprises.over()
    assert surprises.problem is None
    surprises.tell("pigeon: flying failed", KeyError("again"))
    surprises.tell("pigeon: landing failed", KeyError("again"))
    told = [record.getMessage() for record in caplog.records if record.exc_info]
    assert told == [
        "pigeon: flying failed: KeyError",
        "pigeon: flying failed: ValueError",
        "pigeon: landing failed: KeyError",
    ]
