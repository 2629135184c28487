"""Measures how servers stop with open streams: `python tests/real/servers/shutdown_table.py`.

Rewrites `docs/servers.json`, and the tables of `docs/servers.md` that are made from it.
`--python` measures only what differs between releases of Python, on this one, and `--tables`
only regenerates the tables. Servers that are not installed are left out.
"""

import argparse
import datetime as dt
import json
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))

from real import parts  # noqa: E402
from real.servers.cases import (  # noqa: E402
    BY_PYTHON,
    CASES,
    COMMANDS,
    EVERY,
    RELOAD,
    Case,
)
from real.servers.shutdown import KINDS, TOO_LONG, Result, measure, reloaded  # noqa: E402
from real.servers.shutdown_clients import CLEAN  # noqa: E402

DOCS: Final = TESTS.parent / "docs"
PAGE: Final = DOCS / "servers.md"
RESULTS: Final = DOCS / "servers.json"


def row(case: Case, folder: Path) -> Result:
    """Measure a case with the middleware and, where that is another case, without it."""
    act = reloaded if case is RELOAD else None
    event = "a watched file changes, then SIGTERM" if act else ""
    found = {
        "python": platform.python_version(),
        "server": case.server,
        "options": list(case.options),
        "loop": case.loop,
        "http": case.http,
        "event": event or ", then ".join(one.name for one in case.signals),
        "works": case.works,
        "with": measure(case, folder / "with", act=act),
    }
    if act is None and "-m" in COMMANDS[case.server]:
        found["without"] = measure(case, folder / "without", kinds=("feed",), WITHOUT="1")
    print(f"{case.name}: {summary(found['with'])}", file=sys.stderr, flush=True)
    return found


def measure_all(cases: list[Case], at_a_time: int) -> list[Result]:
    """Measure those of the cases that can be."""
    cases = [case for case in cases if not case.missing()]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_a_time) as pool:
        return list(pool.map(row, cases, [Path(folder, str(x)) for x in range(len(cases))]))


def outcome(stream: Result) -> str:
    """Say how a client saw a stream end."""
    last = "by the app" if stream["own_end"] else "farewell" if stream["farewell"] else ""
    end = "" if stream["end"] == CLEAN else stream["end"]
    return ", ".join(filter(None, [last, end])) or "end"


def outcomes(found: Result, kind: str) -> str:
    """Say how the clients saw all streams of a kind end, and when."""
    streams = [one for one in found["streams"] if one["kind"] == kind]
    texts = ", or ".join(sorted({outcome(one) for one in streams}))
    times = sorted({f"{one['after']:.1f}" for one in streams if one["after"] is not None})
    return (
        f"{texts}: {' to '.join(dict.fromkeys((times[0], times[-1])))} s" if times else texts
    )


def how_many(found: Result, what: str) -> str:
    """Say of how many streams something is true."""
    number, streams = sum(bool(one[what]) for one in found["streams"]), len(found["streams"])
    return {0: "no", streams: "yes"}.get(number, f"{number} of {streams}")


def process(found: Result) -> list[str]:
    """Say when a server had gone, and how."""
    if found["gone"] is None:
        return [f"still running after {TOO_LONG:.0f} s", ""]
    status = found["status"]
    return [f"{found['gone']:.1f} s", str(status) if status >= 0 else signal_name(-status)]


def signal_name(number: int) -> str:
    """Return what killed a process."""
    return signal.Signals(number).name


def summary(found: Result) -> str:
    """Return a line on one server."""
    kinds = dict.fromkeys(one["kind"] for one in found["streams"])
    said = [f"{kind} {outcomes(found, kind)}" for kind in kinds]
    last = f"finally {how_many(found, 'finally')}"
    lifespan = f"lifespan.shutdown {found['lifespan_shutdown']}"
    return "; ".join([*process(found), *said, last, lifespan])


def title(row: Result) -> str:
    """Return the first cell of a server's row."""
    words = [row["server"], *row["options"]]
    own = "custom program" in row["server"]
    name = ", ".join(filter(None, [*words, row["loop"]])) if own else f"`{' '.join(words)}`"
    parts = [name, "HTTP/2" if row["http"] == "2" else "", row["event"]]
    return ", ".join(filter(None, parts))


def yes_or_no(value: bool) -> str:
    """Say it in a word."""
    return "yes" if value else "no"


def with_row(row: Result) -> list[str]:
    """Return a server's row of the table with the middleware."""
    found = row["with"]
    cells = [outcomes(found, kind) for kind in KINDS]
    ends = [how_many(found, "finally"), yes_or_no(found["lifespan_shutdown"])]
    return [title(row), *process(found), *cells, *ends]


def without_row(row: Result) -> list[str]:
    """Return a server's row of the table without it."""
    found = row["without"]
    ends = [how_many(found, "finally"), yes_or_no(found["lifespan_shutdown"])]
    return [title(row), *process(found), outcomes(found, "feed"), *ends]


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


GONE: Final = ["server", "exited after", "status"]
LAST: Final = ["cleanup ran", "`lifespan.shutdown`"]


def with_table(found: Result, *, works: bool = True) -> str:
    """Return the table of servers whose shutdown the middleware notices, or does not."""
    rows = [with_row(row) for row in found["servers"] if row["works"] is works]
    return table([*GONE, "finishing app", "endless feed", "blocked app", *LAST], rows)


def without_table(found: Result) -> str:
    """Return the table of servers without the middleware."""
    rows = [without_row(row) for row in found["servers"] if "without" in row]
    return table([*GONE, "endless feed", *LAST], rows)


def minor(release: str) -> tuple[int, int]:
    """Return the minor release of Python that a release belongs to."""
    major, number, *_ = release.split(".")
    return int(major), int(number)


def python_table(found: Result) -> str:
    """Return the table of what differs between releases of Python: when servers had gone."""
    rows = found["servers"] + found["pythons"]
    releases = sorted({row["python"] for row in rows}, key=minor)
    cells = {
        (title(row), middleware, row["python"]): process(row[middleware])[0]
        for row in rows
        for middleware in ("with", "without")
        if middleware in row
    }
    lines = {(name, middleware): None for name, middleware, _ in cells}
    return table(
        ["server", "middleware", *releases],
        [
            [name, middleware, *(cells[name, middleware, release] for release in releases)]
            for name, middleware in lines
            if all((name, middleware, release) in cells for release in releases)
        ],
    )


def machine_table(found: Result) -> str:
    """Return the table of what was measured with."""
    return table(
        ["component", "version or value"],
        [[name, text] for name, text in found["machine"].items()],
    )


TABLES: Final[dict[str, Callable[[Result], str]]] = {
    "with": with_table,
    "unheard": lambda found: with_table(found, works=False),
    "without": without_table,
    "python": python_table,
    "machine": machine_table,
}
_BLOCK: Final = re.compile(
    r"(?P<begin><!-- results: (?P<name>\w+) -->\n).*?(?P<end><!-- end of results -->)",
    re.DOTALL,
)


def published(page: str, found: Result) -> str:
    """Return a page with the tables of what was found; all else as it was."""
    return _BLOCK.sub(
        lambda block: f"{block['begin']}\n{TABLES[block['name']](found)}\n{block['end']}", page
    )


def machine() -> Result:
    """Return what is measured on, and with."""
    names = (
        "asgi-keepalive",
        "anyio",
        *(name for case in CASES for name in case.distributions),
    )
    about = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    return about | parts.versions(*dict.fromkeys(names))


def dumped(found: Result) -> str:
    """Return the results as JSON, a line for each server."""
    lists = {
        name: ",\n".join(json.dumps(row) for row in found[name])
        for name in ("servers", "pythons")
    }
    parts = [f'"machine": {json.dumps(found["machine"])}']
    parts += [f'"{name}": [\n{rows}\n]' for name, rows in lists.items()]
    return "{" + ",\n".join(parts) + "}\n"


def main() -> None:
    """Measure, and rewrite the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--tables", action="store_true", help="make the tables, no more")
    what.add_argument("--python", action="store_true", help="what differs on this Python")
    parser.add_argument("--at-a-time", type=int, default=2, help="servers at a time")
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    if arguments.python:
        rows = measure_all(BY_PYTHON, arguments.at_a_time)
        others = [x for x in found["pythons"] if minor(x["python"]) != sys.version_info[:2]]
        found["pythons"] = sorted(others + rows, key=lambda row: minor(row["python"]))
    elif not arguments.tables:
        rows = measure_all(EVERY, arguments.at_a_time)
        found |= {"machine": machine(), "servers": rows}
    RESULTS.write_text(dumped(found), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(published(page, found), encoding="utf-8")


if __name__ == "__main__":
    main()
