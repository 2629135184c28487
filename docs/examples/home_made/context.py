"""A wrapper that runs each step of its source in a task of its own."""

import asyncio
from contextvars import ContextVar

user = ContextVar("user")


async def keep_alive(source, interval=0.1):
    step = asyncio.ensure_future(anext(source))
    while True:
        if not (await asyncio.wait([step], timeout=interval))[0]:
            yield ": ping\n"
            continue
        try:
            yield step.result()
        except StopAsyncIteration:
            return
        step = asyncio.ensure_future(anext(source))


async def answer():
    token = user.set("ada")
    yield "data: thinking\n\n"
    await asyncio.sleep(0.25)
    user.reset(token)
    yield "data: 42\n\n"


async def main():
    try:
        print([part async for part in keep_alive(answer())])
    except ValueError as error:
        print("ValueError:", "created in a different Context" in str(error))


if __name__ == "__main__":
    asyncio.run(main())
