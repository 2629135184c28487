"""App, server, client and owner, played against each other in random order."""

from model.machine import Machine, TrioMachine, run_machine


def test_on_asyncio():
    run_machine(Machine, examples=250, steps=30)


def test_on_trio():
    run_machine(TrioMachine, examples=120, steps=25)
