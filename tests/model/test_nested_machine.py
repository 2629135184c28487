"""The state machine with other middlewares around the one that it observes."""

import pytest
from model.machine import run_machine
from model.nested_machine import NestedMachine, NestedTrioMachine

pytestmark = pytest.mark.no_cover  # coverage would make these take three times as long


def test_on_asyncio():
    run_machine(NestedMachine, examples=100, steps=30)


def test_on_trio():
    run_machine(NestedTrioMachine, examples=80, steps=25)
