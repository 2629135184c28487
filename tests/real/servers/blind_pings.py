"""Pings as the package must not send them, to see that the tests' checks see them."""

import anyio
from real.servers.shutdown_app import say
from support.internals import ASGIApp, Message, Receive, Scope, Send

from keepalive import Ping


def blindly_pinged(app: ASGIApp, interval: float) -> ASGIApp:
    """Ping on a timer, whatever the app is sending."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        lock = anyio.Lock()

        async def sending(message: Message) -> None:
            async with lock:
                await send(message)

        async def ping() -> None:
            while True:
                await anyio.sleep(interval)
                await say(sending, Ping.event().payload)

        async with anyio.create_task_group() as group:
            group.start_soon(ping)

            async def last_without_pings(message: Message) -> None:
                if not message.get("more_body") and message["type"] == "http.response.body":
                    group.cancel_scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await sending(message)
                else:
                    await sending(message)

            await app(scope, receive, last_without_pings)

    return served
