"""App, server, client and owner, played against each other in random order."""

import pytest
from model.machine import Machine, TrioMachine, run_machine

pytestmark = pytest.mark.no_cover  # coverage would make these take three times as long


def test_on_asyncio():
    run_machine(Machine, examples=250, steps=30)


def test_on_trio():
    run_machine(TrioMachine, examples=120, steps=25)
