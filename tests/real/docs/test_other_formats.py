"""Other formats, read by programs that people use."""

import subprocess

import pytest
from real import parts

from keepalive import Ping

pytestmark = [pytest.mark.real, pytest.mark.parts]

RECORDS = [b'\x1e{"n": 0}\n', b'\x1e{"n": 1}\n', b""]


@pytest.mark.parametrize("ping", [Ping.blank_line(), Ping.space()])
def test_jq_reads_a_sequence_with_pings(ping):
    parts.need("program:jq")
    done = subprocess.run(
        ["jq", "--seq", "-c", ".n"],
        input=(ping.payload * 2).join(RECORDS),
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == b"\x1e0\n\x1e1\n"
