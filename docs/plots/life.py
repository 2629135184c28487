"""Draws the life of a stream, from the table of its states and transitions.

Run it to publish a change: `python docs/plots/life.py` writes `life.svg`, and the tables of
`concepts.md`. `tests/shape/test_life.py` watches real streams and compares what they do with
this table, in both directions; and what is published with what is made from it.
"""

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "life.svg"
PAGE = HERE.parent / "concepts.md"

WIDTH, HEIGHT = 900, 800
WIDE, HIGH = 184, 50
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
  .name { font-weight: 600; font-size: 14px }
  .title { font-size: 12px; fill: #454c54; text-anchor: start }
  .state { fill: #fff; stroke: #1f2328; stroke-width: 1.2 }
  .group { fill: #eef4fc; stroke: #7d97b5; stroke-dasharray: 5 4 }
  .way { fill: none; stroke: #1f2328; stroke-width: 1.2; marker-end: url(#head) }
  .label { font-size: 12px; fill: #454c54; paint-order: stroke }
  .label { stroke: #fff; stroke-width: 5px; stroke-linejoin: round }
  .inside { stroke: #eef4fc }
"""
HEAD = """<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"
  markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>"""


class State(NamedTuple):
    """A state: where its box is, and what it means."""

    x: int
    y: int
    title: str
    what: str


STATES = {
    "waiting": State(600, 80, "not started", "the app has yet to start its response"),
    "starting": State(
        250, 80, "being started", "the middleware starts the response, by `start_after`"
    ),
    "passed": State(
        800, 178, "left alone", "no stream, or hands off: everything is passed on as it is"
    ),
    "silent": State(600, 270, "no ping due", "the interval since the last bytes runs"),
    "overtaken": State(
        250, 270, "overtaken", "a ping fell due during a send of the app's, in idle pacing"
    ),
    "due": State(
        250, 410, "due", "a ping waits for a boundary, or for a send of the app's to be over"
    ),
    "pinging": State(600, 410, "pinging", "a ping is being sent"),
    "stopped": State(250, 540, "pings stopped", "the response goes on; the reason is settled"),
    "ending": State(
        600, 540, "being ended", "the middleware waits for a boundary, or sends the last body"
    ),
    "ended": State(250, 660, "over", "`StreamEnded` has been reported"),
    "gone": State(
        600, 660, "client seems gone", "`receive` says so, and a send raises an `OSError`"
    ),
    "closed": State(425, 755, "closed", "the app's call is over, and nothing is left of it"),
}

GROUPS = {
    "before the start": ((70, 30, 710, 100), ("waiting", "starting")),
    "kept alive": ((70, 220, 710, 240), ("silent", "overtaken", "due", "pinging")),
}


class Way(NamedTuple):
    """Transitions of one kind: their line's corners, their label and where it stands."""

    sources: tuple[str, ...]
    target: str
    label: str
    when: str
    line: tuple[tuple[int, int], ...]
    at: tuple[int, int]


BEFORE, OPEN = (names for _, names in GROUPS.values())
WAYS = (
    Way(("waiting",), "starting", "start_after is over", "`start_after` is over",
        ((508, 70), (344, 70)), (425, 63)),
    Way(("starting",), "waiting", "refused",
        "the server has not taken the start, or the client has left meanwhile",
        ((342, 90), (506, 90)), (425, 105)),
    Way(BEFORE, "passed", "no stream",
        "the response is no stream, or none comes; or its policy is `None`",
        ((780, 80), (800, 80), (800, 151)), (838, 115)),
    Way(("waiting",), "stopped", "client has left",
        "the response starts when its client is known to have left",
        ((600, 55), (600, 16), (30, 16), (30, 530), (156, 530)), (93, 522)),
    Way(("waiting",), "silent", "the app starts a stream", "the app starts a stream",
        ((600, 105), (600, 243)), (600, 165)),
    Way(("starting",), "silent", "started", "the server has taken the start",
        ((300, 105), (515, 243)), (390, 165)),
    Way(("silent",), "pinging", "a ping is due", "a ping is due, and may stand here",
        ((620, 295), (620, 383)), (680, 345)),
    Way(("pinging",), "silent", "sent", "the ping has been sent",
        ((580, 385), (580, 297)), (560, 345)),
    Way(("silent",), "overtaken", "due, the app sends",
        "a ping falls due while the app sends, in idle pacing",
        ((508, 260), (344, 260)), (425, 253)),
    Way(("overtaken",), "silent", "it sent bytes", "the app's send had bytes: no ping is due",
        ((342, 282), (506, 282)), (425, 298)),
    Way(("silent",), "due", "due, in an event",
        "a ping falls due within an event or, in steady pacing, while the app sends",
        ((515, 295), (330, 383)), (485, 320)),
    Way(("overtaken",), "due", "it sent none",
        "the app's send had no bytes; or failed, and no ping may stand here",
        ((230, 295), (230, 383)), (180, 345)),
    Way(("overtaken",), "pinging", "it failed",
        "the app's send failed, and a ping may stand here",
        ((330, 295), (515, 383)), (365, 320)),
    Way(("due",), "pinging", "a boundary", "the app has reached the boundary, or is done",
        ((342, 410), (506, 410)), (425, 428)),
    Way(OPEN, "stopped", "a StopReason", "the first `StopReason` that happens",
        ((250, 460), (250, 513)), (310, 488)),
    Way(("stopped",), "ending", "its time is up", "`drain` or `max_lifetime` is over",
        ((342, 540), (506, 540)), (425, 533)),
    Way(("stopped",), "ended", "last body, client left, app over",
        "the last body has been sent, the client has left, or the app's call is over",
        ((230, 565), (230, 633)), (128, 604)),
    Way(("stopped",), "gone", "send_timeout",
        "`send_timeout` is over; or the time is up and nothing may be sent",
        ((330, 565), (515, 633)), (375, 586)),
    Way(("ending",), "ended", "by itself",
        "the app has ended the response, the client has left, or the app's call is over",
        ((515, 565), (330, 633)), (470, 586)),
    Way(("ending",), "gone", "last body", "the last body has been sent, or could not be",
        ((620, 565), (620, 633)), (665, 604)),
    Way(("ended",), "gone", "goes on too long",
        "the app still goes on when `drain` is over, or has been told that it came too late",
        ((342, 660), (506, 660)), (425, 676)),
    Way(("ended",), "closed", "returns", "the app returns or raises",
        ((270, 685), (365, 729)), (268, 715)),
    Way(("gone",), "closed", "returns, or is cancelled",
        "the app returns or raises; one second later it is cancelled",
        ((580, 685), (485, 729)), (625, 715)),
)  # fmt: skip

TRANSITIONS = {(source, way.target) for way in WAYS for source in way.sources}
FIRST = "waiting"


def picture() -> str:
    """Return the diagram."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The life of a stream</title>",
        f"<style>{STYLE}</style>",
        HEAD,
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff"/>',
    ]
    for title, ((x, y, wide, high), _) in GROUPS.items():
        parts.append(
            f'<rect class="group" x="{x}" y="{y}" width="{wide}" height="{high}" rx="8"/>'
        )
        parts.append(f'<text class="title" x="{x + 8}" y="{y + 16}">{escape(title)}</text>')
    parts += [line_of(way) for way in WAYS]
    parts += [label_of(way) for way in WAYS]
    parts += [drawn_state(state) for state in STATES.values()]
    return "\n".join([*parts, "</svg>", ""])


def line_of(way: Way) -> str:
    """Return a transition's arrow."""
    points = " ".join(f"{x},{y}" for x, y in way.line)
    return f'<polyline class="way" points="{points}"/>'


def label_of(way: Way) -> str:
    """Return a transition's label, in its place."""
    (x, y), ends = way.at, {*way.sources, way.target}
    inside = any(ends <= set(names) for _, names in GROUPS.values())
    kind = "label inside" if inside else "label"
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(way.label)}</text>'


def drawn_state(state: State) -> str:
    """Return a state's box."""
    x, y = state.x - WIDE // 2, state.y - HIGH // 2
    return (
        f'<rect class="state" x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="8"/>'
        f'<text class="name" x="{state.x}" y="{state.y + 5}">{escape(state.title)}</text>'
    )


def tables() -> str:
    """Return the tables of states and transitions."""
    lines = ["| state | |", "| --- | --- |"]
    lines += [f"| {state.title} | {state.what} |" for state in STATES.values()]
    lines += ["", "| from | to | when |", "| --- | --- | --- |"]
    names = {names: group for group, (_, names) in GROUPS.items()}
    for way in WAYS:
        source = names.get(way.sources) or STATES[way.sources[0]].title
        lines.append(f"| {source} | {STATES[way.target].title} | {way.when} |")
    return "\n".join(lines)


def published(page: str) -> str:
    """Return a page with the tables between their marks."""
    marks = r"(<!-- life -->\n).*?(\n<!-- end of life -->)"
    made = f"\n{tables()}\n"
    return re.sub(marks, lambda found: found[1] + made + found[2], page, flags=re.DOTALL)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(published(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
