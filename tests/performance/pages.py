"""Puts the tables of a results file into a page: `python tests/performance/pages.py`.

A page marks the place of a table, or of a part's tables, by the part's name:

    <!-- results: cost -->
    ...
    <!-- end of results -->
"""

import json
import re
from pathlib import Path
from typing import Any, Final

import budgets
import cost
import lateness
import peers
import scale
import socket_tables
from tables import table

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "performance.md"
RESULTS: Final = DOCS / "performance.json"

_BLOCK: Final = re.compile(
    r"(?P<begin><!-- results: (?P<name>\w+) -->\n).*?(?P<end><!-- end of results -->)",
    re.DOTALL,
)


def published(page: str, found: dict[str, Any]) -> str:
    """Return a page with the tables of what was found; all else as it was."""
    return _BLOCK.sub(
        lambda block: f"{block['begin']}\n{TABLES[block['name']](found)}\n{block['end']}", page
    )


def machine(found: dict[str, Any]) -> str:
    """Return a table of what the numbers were measured on, and with."""
    about = found["machine"]
    rows = [[name, str(about[name])] for name in ("date", "cpu", "cpus", "system", "python")]
    rows += [[name, number] for name, number in found["sockets"]["versions"].items()]
    return table("Measured on, and with", ["what", "which"], rows)


def memory(found: dict[str, Any]) -> str:
    """Return the tables of the memory of an idle stream."""
    return _for_each_number_of_streams(found, socket_tables.memory)


def pings(found: dict[str, Any]) -> str:
    """Return the tables of the CPU time of a ping."""

    def all_arrivals(streams: int, rows: list[dict[str, Any]]) -> str:
        arrivals = {name: None for row in rows for name in row.get("pinged", {})}
        return "\n".join(socket_tables.pings(streams, name, rows) for name in arrivals)

    return _for_each_number_of_streams(found, all_arrivals)


def _for_each_number_of_streams(found: dict[str, Any], make: Any) -> str:
    idle = found["sockets"]["idle"]
    numbers = dict.fromkeys(row["streams"] for row in idle)
    return "\n".join(
        make(number, [row for row in idle if row["streams"] == number]) for number in numbers
    )


def busy(found: dict[str, Any]) -> str:
    """Return the tables of one busy stream."""
    rows = found["sockets"]["busy"]
    turns = dict.fromkeys(row["events_per_turn"] for row in rows)
    return "\n".join(socket_tables.busy(turn, rows) for turn in turns)


TABLES: Final = {
    "budgets": budgets.tables,
    "machine": machine,
    "cost": lambda found: cost.tables(found["cost"]),
    "peers": lambda found: peers.tables(found["peers"]),
    "scale": lambda found: scale.tables(found["scale"]),
    "lateness": lambda found: lateness.tables(found["lateness"]),
    "memory": memory,
    "pings": pings,
    "busy": busy,
}


def main() -> None:
    """Rewrite the page."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(published(page, found), encoding="utf-8")


if __name__ == "__main__":
    main()
