"""A stream with long pauses that is kept alive.

Run it:

    python docs/examples/quickstart.py

Then watch the stream with `curl -N http://127.0.0.1:8000/`, or open
http://127.0.0.1:8000/page in a browser. `?silence=5` sets the seconds between two events,
`?steps=3` ends the stream after the third. Ctrl-C stops the server and its streams.
"""

import contextlib
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

import anyio
import uvicorn

from keepalive import KeepaliveMiddleware, StopReason, get_stream, on_signals

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL = 2.0
SILENCE = 9.0

PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A stream that is kept alive</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
  body { max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
</style>
<main>
  <h1>A stream that is kept alive</h1>
  <p role="status" id="state">Connecting.</p>
  <noscript><p>This page needs JavaScript to read the stream.</p></noscript>
  <h2 id="events-title">Events from the app</h2>
  <ol id="events" role="log" aria-labelledby="events-title"></ol>
  <h2 id="pings-title">Pings</h2>
  <p>Sent by the middleware while the app is idle.</p>
  <ol id="pings" aria-labelledby="pings-title"></ol>
</main>
<script>
  const add = (id, text) => {
    const item = document.createElement("li");
    item.textContent = new Date().toLocaleTimeString() + " " + text;
    document.getElementById(id).append(item);
  };
  const state = (text) => { document.getElementById("state").textContent = text; };
  const source = new EventSource("/" + location.search);
  source.onopen = () => state("Connected.");
  source.onerror = () => state("The stream has ended; the browser is reconnecting.");
  source.onmessage = (event) => add("events", event.data);
  source.addEventListener("ping", () => add("pings", "ping"));
</script>
</html>
"""


async def stream_events(scope: Scope, send: Send) -> None:
    """Send an event after each pause."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    silence, steps = float(query.get("silence", SILENCE)), int(query.get("steps", 0))
    stopping = get_stream(scope).signal
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for step in count(1):
        body = f"data: step {step}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if step == steps:
            break
        with anyio.move_on_after(silence):  # or until a disconnect or a shutdown
            await stopping.wait()
        if stopping.aborted:
            break
    if stopping.reason is not StopReason.DISCONNECTED:
        await send({"type": "http.response.body"})


async def respond(send: Send, status: int, media_type: bytes, body: bytes) -> None:
    """Send a complete response."""
    headers = [
        (b"content-type", media_type + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the stream at `/` and a page that shows it at `/page`."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/":
        await stream_events(scope, send)
    elif scope["path"] == "/page":
        await respond(send, 200, b"text/html", PAGE)
    else:
        await respond(send, 404, b"text/plain", b"The stream is at /, the page at /page.\n")


app = KeepaliveMiddleware(
    serve, interval=INTERVAL, on_shutdown=on_signals(signal.SIGINT, signal.SIGTERM), drain=1.0
)


def main() -> None:
    """Serve on port 8000, on this machine only."""
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(app, host="127.0.0.1", port=8000, lifespan="off")


if __name__ == "__main__":
    main()
