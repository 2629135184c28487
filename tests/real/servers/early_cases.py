"""What every server is tried with where the middleware starts responses in their apps' place.

As in `stream_cases`, each asserts what must hold, and returns what it has found in a word.
"""

import json
from typing import Final

from real.http_clients import PING, split_pings
from real.servers.serving import Serving, new_key
from real.servers.stream_apps import GOODBYE, HELLO, REFUSAL

YES: Final = "yes"


def started_early(server: Serving) -> str:
    """A late answer follows the pings; a late refusal is reported; both end properly."""
    assert server.whole(f"/plain/late/{new_key()}") == HELLO + GOODBYE
    path = f"/late/{new_key()}"
    body = server.whole(f"/tardy{path}")
    rest, pings = split_pings(body)
    assert body.startswith(PING)
    assert pings >= 2
    assert rest == HELLO + GOODBYE
    path = f"/refused/{new_key()}"
    rest, pings = split_pings(server.whole(f"/tardy{path}"))
    assert pings >= 2
    head, _, data = rest.partition(b"\ndata: ")
    assert head == b"event: error"
    assert json.loads(data) == {
        "type": "error",
        "error": {"message": "no", "type": "api_error", "code": "503"},
        "status": 503,
        "media_type": "application/json",
        "body": REFUSAL.decode(),
    }
    (ended,) = server.wait_until_noted("ended", path)
    assert ended["reason"] == "completed"
    return YES
