"""What a gone client looks like to an app that sends, and what comes of it.

Law: an error, and how it is told from others. Knows no stream.

Source: ASGI 2.4, "Disconnected Client - send exception".
"""

from typing import cast


class ClientGoneError(ConnectionError):
    """What an app's send raises when the middleware has ended its stream."""


def comes_of_the_end(error: BaseException) -> bool:
    """Whether an app raised an error because a send of its own met the end.

    Some frameworks raise one of their own in its place.
    """
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(map(comes_of_the_end, group.exceptions))
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientGoneError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
