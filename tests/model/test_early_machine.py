"""The state machine with an app that starts late, perhaps too late."""

import pytest
from model.early_machine import (
    AskedInBodyMachine,
    AskedInBodyTrioMachine,
    EarlyMachine,
    EarlyTrioMachine,
)
from model.machine import run_machine

pytestmark = pytest.mark.no_cover  # coverage would make these take three times as long


def test_on_asyncio():
    run_machine(EarlyMachine, examples=200, steps=30)


def test_on_trio():
    run_machine(EarlyTrioMachine, examples=80, steps=25)


def test_asked_in_the_body_on_asyncio():
    run_machine(AskedInBodyMachine, examples=100, steps=30)


def test_asked_in_the_body_on_trio():
    run_machine(AskedInBodyTrioMachine, examples=40, steps=25)
