"""A line: who has to wait, first come, first served.

Law: holds who waits. Knows not what for.
"""

import anyio


class Line(list[anyio.Event]):
    """Tasks that wait for their turn; false when nobody does."""

    __slots__ = ()

    async def wait(self) -> None:
        """Wait for who is being served, and for whoever has waited longer."""
        turn = anyio.Event()
        self.append(turn)
        try:
            await turn.wait()
        finally:
            self.remove(turn)
            if turn.is_set():
                self.call_next()  # it runs in a later turn of the loop, behind this one

    def call_next(self) -> None:
        """Let the next one go on, if there is one."""
        if self:
            self[0].set()
