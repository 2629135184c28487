"""A wrapper that cancels its source, with `asyncio.wait_for`."""

import asyncio


async def keep_alive(source, interval=0.1):
    while True:
        try:
            yield await asyncio.wait_for(anext(source), interval)
        except TimeoutError:
            yield ": ping\n"
        except StopAsyncIteration:
            return


async def answer():
    yield "data: thinking\n\n"
    await asyncio.sleep(0.25)
    yield "data: 42\n\n"


async def main():
    print([part async for part in keep_alive(answer())])


if __name__ == "__main__":
    asyncio.run(main())
