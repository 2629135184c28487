"""Draws the states of a stream and generates the tables of its states and transitions.

After a change run `python docs/plots/life.py`: it writes `life.svg` and the tables in
`stream-states.md`. `tests/package/test_life.py` records what real streams do and compares it
with this list, in both directions, and compares the published files with the generated ones.
"""

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "life.svg"
PAGE = HERE.parent / "stream-states.md"

WIDTH, HEIGHT = 900, 830
WIDE, HIGH = 184, 50
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
  .name { font-weight: 600; font-size: 14px }
  .title { font-size: 12px; fill: #454c54; text-anchor: start }
  .state { fill: #fff; stroke: #1f2328; stroke-width: 1.2 }
  .call { fill: #fff; stroke: #7d97b5 }
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
    what: str


STATES = {
    "undecided": State(600, 110, "the response has not started"),
    "starting": State(250, 110, "the response start of a stream is being sent"),
    "forwarding": State(
        785, 208, "the response is not kept alive: every message is passed through unchanged"
    ),
    "idle": State(600, 300, "no ping is due"),
    "overtaken": State(
        250, 300, "a ping became due while the app was sending, with idle pacing"
    ),
    "due": State(250, 440, "a ping waits for a boundary, or for a send of the app to return"),
    "sending": State(600, 440, "a ping is being sent"),
    "stopped": State(250, 570, "the pings have stopped, and the response continues"),
    "ending": State(600, 570, "the middleware waits for a boundary, or sends the last body"),
    "ended": State(250, 690, "`StreamEnded` has been emitted"),
    "revoked": State(600, 690, "the app sees a disconnect, and what it sends is discarded"),
    "closed": State(450, 790, "the app has returned or raised"),
}


class Group(NamedTuple):
    """A frame around states: where it is, its CSS class, and the states."""

    box: tuple[int, int, int, int]
    kind: str
    names: tuple[str, ...]


EACH = tuple(name for name in STATES if name != "closed")
BEFORE = ("undecided", "starting")
KEPT_ALIVE = ("idle", "overtaken", "due", "sending")
GROUPS = {
    "during the app's call": Group((10, 8, 880, 727), "call", EACH),
    "before the start": Group((70, 60, 710, 100), "group", BEFORE),
    "kept alive": Group((70, 250, 710, 240), "group", KEPT_ALIVE),
}


class Way(NamedTuple):
    """Transitions of one kind: their line's corners, their label and where it stands."""

    sources: tuple[str, ...]
    target: str
    label: str
    when: str
    line: tuple[tuple[int, int], ...]
    at: tuple[int, int]


WAYS = (
    Way(("undecided",), "starting", "a stream starts",
        "the app starts a stream, or `start_after` seconds have passed",
        ((508, 100), (344, 100)), (425, 93)),
    Way(("starting",), "undecided", "rejected", "the server has rejected the start",
        ((342, 120), (506, 120)), (425, 135)),
    Way(("undecided",), "forwarding", "not a stream",
        "the response is not a stream, or is excluded, or an inner middleware handles it",
        ((692, 110), (800, 110), (800, 181)), (836, 150)),
    Way(("undecided",), "stopped", "disconnected",
        "the response starts after its client has disconnected",
        ((600, 85), (600, 46), (40, 46), (40, 560), (156, 560)), (98, 552)),
    Way(("starting",), "idle", "started", "the server has accepted the start",
        ((300, 135), (515, 273)), (390, 195)),
    Way(("idle",), "sending", "a ping is due",
        "a ping is due, and the stream is at a boundary",
        ((620, 325), (620, 413)), (680, 375)),
    Way(("sending",), "idle", "sent", "the ping has been sent",
        ((580, 415), (580, 327)), (560, 375)),
    Way(("idle",), "overtaken", "due, the app sends",
        "a ping becomes due while the app is sending, with idle pacing",
        ((508, 290), (344, 290)), (425, 283)),
    Way(("overtaken",), "idle", "with bytes", "the app's send contained bytes: no ping is due",
        ((342, 312), (506, 312)), (425, 328)),
    Way(("idle",), "due", "due, in an event",
        "a ping becomes due within an event or, with steady pacing, while the app is sending",
        ((515, 325), (330, 413)), (495, 350)),
    Way(("overtaken",), "due", "without bytes",
        "the app's send contained no bytes; or it failed, and the stream is not at a boundary",
        ((230, 325), (230, 413)), (180, 375)),
    Way(("overtaken",), "sending", "it failed",
        "the app's send failed, and the stream is at a boundary",
        ((330, 325), (515, 413)), (365, 350)),
    Way(("due",), "sending", "at a boundary",
        "the stream has reached the boundary, and the app's send has returned",
        ((342, 440), (506, 440)), (425, 458)),
    Way(("starting",), "stopped", "a StopReason", "a `StopReason` occurs during the start",
        ((158, 120), (56, 120), (56, 580), (156, 580)), (106, 594)),
    Way(KEPT_ALIVE, "stopped", "a StopReason", "the first `StopReason` that occurs",
        ((250, 490), (250, 543)), (310, 518)),
    Way(("stopped",), "ending", "the deadline",
        "`drain` or `max_lifetime` seconds have passed",
        ((342, 570), (506, 570)), (425, 563)),
    Way(("stopped",), "ended", "last body, disconnect",
        "the last body has been sent, or the client has disconnected",
        ((230, 595), (230, 663)), (152, 634)),
    Way(("stopped",), "revoked", "send_timeout", "`send_timeout` seconds have passed",
        ((330, 595), (515, 663)), (375, 616)),
    Way(("ending",), "ended", "by the app",
        "the app has sent the last body, or the client has disconnected",
        ((515, 595), (330, 663)), (490, 616)),
    Way(("ending",), "revoked", "last body", "the last body was sent, or sending it failed",
        ((620, 595), (620, 663)), (665, 634)),
    Way(("ended",), "revoked", "the app continues",
        "the client disconnected while the stream was ending; the app continues when `drain` "
        "is over; or its response came too late and has been reported",
        ((342, 690), (506, 690)), (425, 706)),
    Way(EACH, "closed", "the app returns or raises",
        "the app returns or raises; if it continues after `revoked`, it is cancelled",
        ((450, 735), (450, 763)), (532, 752)),
)  # fmt: skip

TRANSITIONS = {(source, way.target) for way in WAYS for source in way.sources}
FIRST = "undecided"


def picture() -> str:
    """Return the diagram."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The states of a stream</title>",
        f"<style>{STYLE}</style>",
        HEAD,
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff"/>',
    ]
    for title, ((x, y, wide, high), kind, _) in GROUPS.items():
        parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{wide}" height="{high}" rx="8"/>'
        )
        parts.append(f'<text class="title" x="{x + 8}" y="{y + 16}">{escape(title)}</text>')
    parts += [line_of(way) for way in WAYS]
    parts += [label_of(way) for way in WAYS]
    parts += [drawn_state(name) for name in STATES]
    return "\n".join([*parts, "</svg>", ""])


def line_of(way: Way) -> str:
    """Return a transition's arrow."""
    points = " ".join(f"{x},{y}" for x, y in way.line)
    return f'<polyline class="way" points="{points}"/>'


def label_of(way: Way) -> str:
    """Return a transition's label, in its place."""
    (x, y), ends = way.at, {*way.sources, way.target}
    inside = ends <= set(BEFORE) or ends <= set(KEPT_ALIVE)
    kind = "label inside" if inside else "label"
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(way.label)}</text>'


def drawn_state(name: str) -> str:
    """Return a state's box."""
    state = STATES[name]
    x, y = state.x - WIDE // 2, state.y - HIGH // 2
    return (
        f'<rect class="state" x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="8"/>'
        f'<text class="name" x="{state.x}" y="{state.y + 5}">{escape(name)}</text>'
    )


def tables() -> str:
    """Return the tables of states and transitions."""
    lines = ["| state | |", "| --- | --- |"]
    lines += [f"| {name} | {state.what} |" for name, state in STATES.items()]
    lines += ["", "| from | to | when |", "| --- | --- | --- |"]
    groups = {group.names: name for name, group in GROUPS.items()}
    for way in WAYS:
        source = groups.get(way.sources) or way.sources[0]
        lines.append(f"| {source} | {way.target} | {way.when} |")
    return "\n".join(lines)


def published(page: str) -> str:
    """Return a page with the tables between their marks."""
    marks = r"(<!-- life -->\n).*?(\n<!-- end of life -->)"
    made = f"\n{tables()}\n"
    return re.sub(marks, lambda found: found[1] + made + found[2], page, flags=re.DOTALL)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(published(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
