"""The same wrapper again, with a client that reads slowly."""

import asyncio

from lost_error import keep_alive

produced = []


async def answer():
    for number in range(10_000):
        produced.append(number)
        yield f"data: {number}\n\n"


async def main():
    stream = keep_alive(answer())
    await anext(stream)
    await asyncio.sleep(0.2)  # the client's connection is slow
    print("read: 1, in memory:", len(produced) - 1)
    await stream.aclose()


if __name__ == "__main__":
    asyncio.run(main())
