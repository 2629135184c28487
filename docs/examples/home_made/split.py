"""A wrapper that inserts pings between chunks, which need not be events."""

import asyncio


async def keep_alive(chunks, interval=0.1):
    step = asyncio.ensure_future(anext(chunks))
    while True:
        if (await asyncio.wait([step], timeout=interval))[0]:
            try:
                yield step.result()
            except StopAsyncIteration:
                return
            step = asyncio.ensure_future(anext(chunks))
        else:
            yield "event: ping\ndata: \n\n"


async def upstream():
    yield 'data: {"answer":\n'  # bytes from another server: half an event
    await asyncio.sleep(0.15)
    yield "data: 42}\n\n"


async def main():
    text = "".join([part async for part in keep_alive(upstream())])
    print(text.removesuffix("\n\n").split("\n\n"))


if __name__ == "__main__":
    asyncio.run(main())
