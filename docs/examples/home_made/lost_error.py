"""A wrapper with a queue and a task that fills it; errors of the source stay in that task."""

import asyncio


async def keep_alive(source, interval=0.1):
    queue = asyncio.Queue()

    async def fill():
        try:
            async for part in source:
                await queue.put(part)
        finally:
            await queue.put(None)

    asyncio.create_task(fill())
    while True:
        try:
            part = await asyncio.wait_for(queue.get(), interval)
        except TimeoutError:
            part = ": ping\n"
        if part is None:
            return
        yield part


async def answer():
    yield "data: thinking\n\n"
    raise ConnectionError("the model has gone")


async def main():
    print([part async for part in keep_alive(answer())], "and no error")


if __name__ == "__main__":
    asyncio.run(main())
