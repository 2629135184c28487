"""A Sphinx extension: signatures in the reference show type aliases by their names.

Autodoc generates a signature from the objects, in which each alias is replaced by its value.
"""

import re
from typing import Any, Final

from keepalive import StreamEvent
from keepalive._types import ASGIApp, Receive, Scope, Send

ALIASES: Final[dict[str, object]] = {
    "ASGIApp": ASGIApp,
    "Receive": Receive,
    "Send": Send,
    "Scope": Scope,
    "StreamEvent": StreamEvent,
}
"""An alias comes before those that its value contains."""

_NAME: Final = re.compile(r"(?:\w+\\\.)*(\w+)")


def _pattern(value: object) -> re.Pattern[str]:
    """Match a type however its names are qualified, with autodoc's `~` or without."""
    return re.compile(_NAME.sub(r"(?:~?\\b(?:\\w+\\.)*)?\1", re.escape(repr(value))))


_PATTERNS: Final = {name: _pattern(value) for name, value in ALIASES.items()}


def with_alias_names(signature: str) -> str:
    """Return a signature, or the type that it returns, with the names of aliases."""
    for name, pattern in _PATTERNS.items():
        signature = pattern.sub(name, signature)
    return signature


def change_signature(*event: Any) -> tuple[str | None, str | None]:
    """Name aliases, and replace `<factory>`, which Sphinx can't parse."""
    *_, signature, returns = event
    signature = signature and with_alias_names(signature.replace("<factory>", "{}"))
    return signature, returns and with_alias_names(returns)


def setup(app: Any) -> dict[str, bool]:
    """Register the extension."""
    app.connect("autodoc-process-signature", change_signature)
    return {"parallel_read_safe": True}
