"""A wrapper that closes its source when the client disconnects."""

import asyncio


async def keep_alive(source, interval=0.1):
    step = asyncio.ensure_future(anext(source))
    try:
        while not (await asyncio.wait([step], timeout=interval))[0]:
            yield ": ping\n"
        yield step.result()
    finally:
        await source.aclose()


async def answer():
    await asyncio.sleep(0.25)
    print("still working")
    yield "data: 42\n\n"


async def main():
    stream = keep_alive(answer())
    await anext(stream)  # a ping; then the client disconnects
    try:
        await stream.aclose()
    except RuntimeError as error:
        print("RuntimeError:", error)
    await asyncio.sleep(0.3)


if __name__ == "__main__":
    asyncio.run(main())
