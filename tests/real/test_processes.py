"""The ports of servers that tests start."""

import pytest
from real.processes import PORTS, Ports, ports_of_worker

pytestmark = pytest.mark.real


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
def test_two_workers_never_share_a_port(workers):
    ranges = [ports_of_worker(worker, workers) for worker in range(workers)]
    assert sum(map(len, ranges)) == len(set().union(*ranges))
    assert all(12_000 <= port < 32_000 for ports in ranges for port in ports)


def test_no_port_is_taken_twice():
    ports = Ports(range(PORTS.take(), 32_000))
    taken = [ports.take() for _ in range(20)]
    assert len(set(taken)) == 20
