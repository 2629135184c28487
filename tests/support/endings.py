"""What tests of a stream's end have in common: an app that notes what it sees, and players."""

import asyncio

import anyio
import trio
from support.harness import body, play

from keepalive import AbortController, KeepaliveMiddleware, Ping

CANCELLED = (asyncio.CancelledError, trio.Cancelled)
X = b"data: x\n\n"
BYE = b"event: stopping\ndata: \n\n"
FAREWELL = Ping.event("stopping")


class Log(list):
    """What an app saw, and when."""

    def __init__(self):
        self.world = None

    def prepare(self, world):
        """Use the clock of this world."""
        self.world = world

    def add(self, what):
        """Note what has happened now."""
        self.append((self.world.now(), what))

    async def stay(self, scope, receive, send):
        """Stay forever, and neither send nor receive."""
        try:
            await anyio.sleep(10**6)
        except BaseException as error:
            self.add("cancelled" if isinstance(error, CANCELLED) else error)
            raise

    async def listen(self, scope, receive, send):
        """Return as soon as the client has gone."""
        while (message := await receive())["type"] != "http.disconnect":
            pass
        self.add(message["type"])


def aborted(backend, log, steps, *, at=20, more=(), **options):
    """Play an app whose stream is aborted, with five seconds of drain and a farewell."""
    controller = AbortController()
    options = {"drain": 5, "farewell": FAREWELL, "prepare": log.prepare} | options
    at = [(at, controller.abort), *more]
    return play(backend, steps, abort=controller.signal, at=at, **options)


def slow_to_send(payload, seconds, log):
    """Prepare a world whose server takes so many seconds to send these bytes."""

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: seconds if message.get("body") == payload else 0

    return prepare


def blocked_send(log, payload):
    """Return a step that sends, notes the error that ends the send, and stays."""

    async def send_for_ever(scope, receive, send):
        try:
            await send(body(payload))
        except OSError as error:
            log.add(str(error))
        await log.stay(scope, receive, send)

    return send_for_ever


def shut_down(backend, log, steps, *, at=20, **options):
    """Play an app whose owner shuts down, with five seconds of drain and a farewell."""
    made = []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    options = {"drain": 5, "farewell": FAREWELL, "prepare": log.prepare} | options
    at = [(at, lambda: made[0].shutdown())]
    return play(backend, steps, at=at, wrap=wrap, **options)


def leaves_at(when, log):
    """Prepare a world whose client leaves at that time."""

    def prepare(world):
        log.prepare(world)
        world.leave_at = when

    return prepare
