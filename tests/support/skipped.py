"""A short summary of why tests were skipped."""

from collections import Counter
from collections.abc import Iterable

NOT_INSTALLED = "not installed: "
"""What the reason begins with where other projects' parts are missing; their names follow."""


def summary(reasons: Iterable[str]) -> list[str]:
    """Return a line for each reason, and one for all parts that are not installed.

    Args:
        reasons: That of each test.
    """
    counts: Counter[str] = Counter()
    absent: set[str] = set()
    for text in reasons:
        reason = text.removeprefix("Skipped: ")
        if reason.startswith(NOT_INSTALLED):
            absent.update(reason.removeprefix(NOT_INSTALLED).split(", "))
            counts[NOT_INSTALLED] += 1
        else:
            counts[reason] += 1
    names = ", ".join(sorted(name.rpartition(":")[2] for name in absent))
    return [
        f"{count:5} {reason}{names if reason == NOT_INSTALLED else ''}"
        for reason, count in counts.most_common()
    ]
