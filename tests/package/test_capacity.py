"""The page about capacity: the arithmetic of its model, and its simulation."""

import json
import math
import random

import pages
import pytest

from keepalive import _timing as timing

CAPACITY = pages.program("examples/capacity.py")
DEPLOYMENT = pages.program("plots/deployment.py")

COSTS = CAPACITY.Costs(
    process_kib=10_240,
    stream_kib=10,
    socket_kib=4,
    ping_us=20,
    event_us=40,
    open_us=500,
    collection_us=2,
)
CASE = CAPACITY.Case(
    streams=100_000, interval=10.0, events=0.0, max_lifetime=0.0, workers=10, machines=2
)


def test_idle_streams():
    found = CAPACITY.needs(CASE, COSTS)
    assert found.streams_per_worker == 10_000
    assert found.pings_per_s == 10_000
    assert found.load(10) == pytest.approx(10_000 * 20e-6 / 10)
    assert found.worker_mib == pytest.approx((10_240 + 100_000) / 1024)
    kernel_kib, workers_kib = 50_000 * 4, 5 * (10_240 + 100_000)
    assert found.machine_gib == pytest.approx((kernel_kib + workers_kib) / 1024**2)
    assert found.collection_ms == pytest.approx(20)
    assert found.reopen_s == pytest.approx(5)


def test_events_and_reconnects():
    case = CASE._replace(events=0.5, max_lifetime=1000.0)
    found = CAPACITY.needs(case, COSTS)
    assert found.events_cpu == pytest.approx(50_000 * 40e-6)
    assert found.opens_per_s == pytest.approx(100_000 / 900)
    assert found.opens_cpu == pytest.approx(100_000 / 900 * 500e-6)
    assert found.pings_per_s < CAPACITY.needs(CASE, COSTS).pings_per_s


def simulated_pings(interval, events, seconds):
    """Return the pings per second of a stream that is pinged after each silent interval."""
    rng = random.Random(7)
    at = due = pings = 0.0
    while at < seconds:
        at += rng.expovariate(events)
        if at > due:
            pings += (at - due) // interval + 1
        due = at + interval
    return pings / at


@pytest.mark.parametrize(("interval", "events"), [(15.0, 0.1), (15.0, 0.01), (1.0, 1.0)])
def test_the_rate_of_pings_is_that_of_a_simulation(interval, events):
    expected = simulated_pings(interval, events, 40_000 / events)
    assert CAPACITY.ping_rate(interval, events) == pytest.approx(expected, rel=0.03)


def test_the_rate_of_pings_at_its_limits():
    assert CAPACITY.ping_rate(15.0, 0.0) == 1 / 15
    assert CAPACITY.ping_rate(15.0, 1e-9) == pytest.approx(1 / 15)
    assert CAPACITY.ping_rate(15.0, 1000.0) == 0.0
    assert CAPACITY.ping_rate(15.0, 1.0) == pytest.approx(1 / (math.exp(15) - 1))


def test_the_program_prints_the_reader_s_own_case(capsys):
    CAPACITY.main(["--streams", "64000", "--workers", "4", "--machines", "1", "--events", "0"])
    printed = capsys.readouterr().out
    assert "64,000 streams, 4 workers on 1 machines" in printed
    assert "pings per second           4,267\n" in printed
    assert "addresses behind a proxy   3 per machine\n" in printed


def test_the_program_prints_the_case_of_the_page(capsys):
    page = (pages.DOCS / "capacity.md").read_text(encoding="utf-8")
    CAPACITY.main([])
    assert f"```text\n{capsys.readouterr().out}```\n" in page


def test_the_program_reads_the_costs_of_the_published_results():
    results = json.loads(pages.RESULTS.read_text(encoding="utf-8"))
    costs = CAPACITY.read_costs(results)
    idle = {row["name"]: row for row in results["sockets"]["idle"]}[CAPACITY.STACK]
    assert costs.stream_kib == idle["kib_per_stream"]
    assert costs.ping_us == idle["pinged"]["spread"]["cpu_us_per_ping_median"]
    assert all(cost > 0 for cost in costs)


def test_the_simulation_has_the_jitter_of_the_package():
    assert DEPLOYMENT.DRAIN_JITTER == (timing.MIN_DRAIN_FRACTION, 1.0)
    assert DEPLOYMENT.LIFETIME_JITTER == (timing.MIN_LIFETIME_FRACTION, 1.0)
    mean = (timing.MIN_LIFETIME_FRACTION + 1.0) / 2
    assert pytest.approx(mean) == CAPACITY.MEAN_LIFETIME


@pytest.mark.parametrize("jitter", [DEPLOYMENT.NO_JITTER, DEPLOYMENT.DRAIN_JITTER])
def test_a_deployment_loses_no_stream(jitter):
    streams = 20_000
    seen = DEPLOYMENT.deploy(50, jitter, streams)
    again = DEPLOYMENT.deploy(50, jitter, streams)
    assert seen == again
    # Many reconnect to workers that are yet to be stopped.
    assert 1.5 * streams < seen.reconnects < 1.75 * streams
    assert seen.most_streams >= streams / DEPLOYMENT.WORKERS


def test_the_jitter_of_a_drain_spreads_reconnects_over_half_of_it():
    streams = 20_000
    together = max(DEPLOYMENT.deploy(100, DEPLOYMENT.NO_JITTER, streams).per_second)
    spread = max(DEPLOYMENT.deploy(100, DEPLOYMENT.DRAIN_JITTER, streams).per_second)
    assert together == streams  # the second half has all of them
    assert spread == pytest.approx(streams / (DEPLOYMENT.DRAIN_S / 2), rel=0.15)


def test_the_jitter_of_max_lifetime_spreads_reconnects_over_a_fifth_of_it():
    streams = 20_000
    together = DEPLOYMENT.reconnects_of_lifetimes(DEPLOYMENT.NO_JITTER, streams)
    spread = DEPLOYMENT.reconnects_of_lifetimes(DEPLOYMENT.LIFETIME_JITTER, streams)
    assert max(together) > streams / 2
    fifth = 0.2 * DEPLOYMENT.MAX_LIFETIME_S
    assert max(spread) / 10 == pytest.approx(streams / fifth, rel=0.25)
    assert sum(spread) > sum(together)
