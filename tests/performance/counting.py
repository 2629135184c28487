"""Counts what a piece of work does: instructions, tasks, timers, blocks of memory.

It never looks at a clock: what is counted once is counted again the next time.
"""

import asyncio
import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import keepalive
import keepalive.testing

PACKAGE = str(Path(keepalive.__file__).parent)
LOOP = keepalive.testing.__file__  # of the tests' own event loop, which is not counted


@contextmanager
def instructions(folder: str = PACKAGE) -> Iterator[Counter[str]]:
    """Count the bytecode instructions that are run, and the calls, of the code in a folder."""
    counts: Counter[str] = Counter()

    def each(frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode":
            counts["instructions"] += 1
        return each

    def enter(frame: FrameType, event: str, _: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(folder) or file == LOOP:
            return None
        if event == "call":
            counts["calls"] += 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return each

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield counts
    finally:
        sys.settrace(before)


class CountingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, which counts what it is asked for."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        super().__init__()

    def create_task(self, *args: Any, **options: Any) -> Any:
        """Count a task."""
        self.counts["tasks"] += 1
        return super().create_task(*args, **options)

    def call_at(self, *args: Any, **options: Any) -> Any:
        """Count a timer."""
        self.counts["timers"] += 1
        return super().call_at(*args, **options)

    def call_soon(self, *args: Any, **options: Any) -> Any:
        """Count a callback."""
        self.counts["callbacks"] += 1
        return super().call_soon(*args, **options)


async def allocated(make: Callable[[], Awaitable[Any]]) -> tuple[int, Any]:
    """Return the bytes that are still allocated when something has been made, and it."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = await make()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before, made
