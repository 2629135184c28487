"""What clients are tried with, as curl gets it: pings in the silences, and nowhere else."""

import subprocess
import sys

import pytest
from real.clients.pings import PINGS
from real.clients.protocols import ALL_PINGS, EVENTS, NDJSON, RECORD_PINGS, SSE
from real.parts import need
from real.processes import PATIENCE, running
from support.internals import boundary_in

pytestmark = [pytest.mark.real, pytest.mark.parts]

DELIVERIES = ("plain", "kept", "pieces", "blind")
CASES = [
    (protocol, ping)
    for protocol in EVENTS
    for ping in (RECORD_PINGS if protocol.startswith("records") else PINGS)
]


def split(body, name, media_type):
    """Remove the pings at boundaries from a body; return the rest, and how many."""
    ping = ALL_PINGS[name]
    end = b"\n\n" if boundary_in(media_type, ping) == "event" else b"\n"
    rest, count, at = b"", 0, 0
    while at < len(body):
        if (not rest or rest.endswith(end)) and body.startswith(ping.payload, at):
            count, at = count + 1, at + len(ping.payload)
        else:
            rest, at = rest + body[at : at + 1], at + 1
    return rest, count


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """All streams, read by one curl at the same time."""
    need("uvicorn", "program:curl")
    folder = tmp_path_factory.mktemp("bodies")
    command = [sys.executable, "-m", "uvicorn", "real.clients.protocols:application", "--port"]
    with running("protocols", lambda port: [*command, str(port)], folder) as server:
        paths = [f"{delivery}/{p}/{name}" for name, p in CASES for delivery in DELIVERIES]
        outputs = [
            part
            for path in paths
            for part in ("-o", str(folder / path.replace("/", "-")), server.url(f"/{path}"))
        ]
        options = ["-N", "-sS", "--fail", "--noproxy", "*", "--max-time", str(PATIENCE)]
        parallel = ["--parallel", "--parallel-immediate", "--parallel-max", "300"]
        subprocess.run(["curl", *options, *parallel, *outputs], check=True)
        yield {path: (folder / path.replace("/", "-")).read_bytes() for path in paths}


@pytest.mark.parametrize(("protocol", "name"), CASES, ids=map("-".join, CASES))
def test_pings_stand_in_the_silences_and_inside_no_event(bodies, protocol, name):
    plain, kept, pieces, blind = (bodies[f"{each}/{name}/{protocol}"] for each in DELIVERIES)
    media_type = NDJSON if protocol.startswith("records") else SSE
    silences = len(EVENTS[protocol]) + (protocol != "records-first")
    assert plain == b"".join(EVENTS[protocol])
    for body in (kept, pieces):
        rest, pings = split(body, name, media_type)
        assert rest == plain
        assert pings >= 2 * silences
    assert kept.startswith(ALL_PINGS[name].payload * 2)

    # The check has teeth: it sees pings that stand elsewhere.
    assert split(blind, name, media_type)[0] != plain
