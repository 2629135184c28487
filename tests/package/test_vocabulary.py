"""The words of the package and of the documentation: standard terms and plain English.

The checks are functions from text to complaints, and are also given bad and good examples.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.sources import of_each_module

ROOT = Path(__file__).resolve().parent.parent.parent

BANNED_WORDS = re.compile(
    r"hearts?|beat(s|en|ing)?|pulse[sd]?|pulsing|walk(s|ed|ing|ers?)?|sayings?|compan(y|ies)"
    r"|seat(s|ed|ing)?|heed(s|ed|ing)?|passages?|surroundings|told|inbox(es)?|deaf(ness)?"
)
BANNED_PAIRS = {("hands", "off")}
BANNED_HEADINGS = re.compile(r"\bLaw:")
BANNED_OPENINGS = re.compile(r"\s*(Hear|See\s+that|Have|Take|Tell|Let)\b")

BANNED_PHRASES = (
    # Private words for which there is a standard term.
    r"limits? on silence|idle limits?",  # idle timeout
    r"in (its|the) app'?s? (place|stead)",  # on the app's behalf
    r"proper(ly)? ends?|ends? properly",  # ends cleanly
    r"patience|deaf(ness)?|contestants?|evening",  # timeout, not listening, setup, shutdown
    r"(bare|unwrapped) (app|one|stream)s?|comes? out bare",  # without the middleware
    r"(may|might|can) stand|stands? (in|inside|at|behind|between|where)",  # can be inserted
    r"(client|who|that|which) (leaves|has left|has gone)|clients? (leave|have (left|gone))",
    r"gone clients?|clients?'?s? leaving|vanishes",  # disconnects
    r"hears? (of|about|nothing)|learns? of",  # is notified of
    # German word order, and idioms that read like it.
    r"(right|just) behind",  # right after
    r"behind (the|an?|its|that) (event|response|headers?|last|request|body|space|end|ping)",
    r"(?<!there )(is|are|was) no (?!longer\b|more\b|other\b|single\b|less\b|body\b)\w+",
    r"anew|for ever|in the midst|mend(s|ed|ing)?|so many seconds|all the same|known from",
    r"ours|theirs|of no account|takes? no notice|without a word|that (were|was) tried",
    r"tried with|left alone|whoever|knows? no",
)
PHRASE = re.compile(rf"\b({'|'.join(BANNED_PHRASES)})\b", re.IGNORECASE)
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if "_build" not in path.parts
)

ESCAPE = re.compile(r"\\[a-z]")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # as split at underscores and camel case


def words(text: str) -> Iterator[tuple[int, str]]:
    """Yield each word of code, strings and comments, in lower case, and its line."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in WORD.findall(ESCAPE.sub(" ", line)):
            yield number, word.lower()


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Yield each docstring, those of attributes too, and its line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            value = node.value.value
            yield from [(node.lineno, value)] if isinstance(value, str) else []


def vocabulary_complaints(text: str) -> Iterator[str]:
    for line, word in words(text):
        if BANNED_WORDS.fullmatch(word):
            yield f"line {line}: {word}"
    for (line, first), (_, second) in pairwise(words(text)):
        if (first, second) in BANNED_PAIRS:
            yield f"line {line}: {first} {second}"
    for line, content in enumerate(text.splitlines(), 1):
        for heading in BANNED_HEADINGS.findall(content):
            yield f"line {line}: {heading}"
    for line, docstring in docstrings(text):
        if opening := BANNED_OPENINGS.match(docstring):
            yield f"line {line}: a docstring that begins with {opening[1]!r}"


def prose_complaints(page: str) -> Iterator[str]:
    """Complain of banned phrases in a page's text; code is not text."""
    text = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), page)
    for found in PHRASE.finditer(re.sub(r"(?<=\S)\n(?=\S)", " ", text)):
        yield found[0].lower()


def docstring_complaints(text: str) -> Iterator[str]:
    """Complain of banned phrases in the docstrings, comments and messages of a module."""
    for line, content in enumerate(text.splitlines(), 1):
        if ":return:" not in content:
            yield from (f"line {line}: {found[0]}" for found in PHRASE.finditer(content))


def test_the_package_uses_standard_terms():
    assert of_each_module(vocabulary_complaints) == []


def test_the_package_uses_plain_phrases():
    assert of_each_module(docstring_complaints) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_uses_plain_phrases(page):
    assert list(prose_complaints((ROOT / page).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        *("an idle limit", "Limits on silence", "in the app's place", "a proper end"),
        *(
            "it ends properly",
            "the kernel's patience",
            "the bare one",
            "where a ping may stand",
        ),
        *("the client has gone", "a client that leaves", "clients leave", "hears of it"),
        *("right behind the event", "behind the headers", "a response that is no stream"),
        *("Signals are no numbers", "connects anew", "for ever", "so many seconds"),
        *("ours is better", "all the same", "the clients that were tried", "without a word"),
        *("an idle\nlimit", "# Never, for ever", "| deaf |", "**left alone**"),
    ],
)
def test_a_banned_phrase_is_seen(text):
    assert len(list(prose_complaints(text))) == 1
    assert list(docstring_complaints(f"# {text}")) or "\n" in text


@pytest.mark.parametrize(
    "text",
    [
        "An idle timeout. The app is behind a proxy. `patience` and `is no stream`.",
        "There is no stream. This is no longer true, and there are no other ones.",
        "```python\nevening = ours  # for ever\n```\nFine.",
        "~~~text\nis no stream\n~~~",
        "No single ping works; it stands for a request; after the event; a colour, hours.",
        "It is forever; within a client; tried again; a mendicant; an endpoint.",
    ],
)
def test_other_phrases_are_allowed(text):
    assert list(prose_complaints(text)) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = 1\nheart = 2", "line 2: heart"),
        ("a = 1  # the heart's own", "line 1: heart"),
        ("a = 'a heart'", "line 1: heart"),
        ('a = f"{b}\\nhearts"', "line 1: hearts"),
        ("_HEART = 1", "line 1: heart"),
        ("class HeartStream: ...", "line 1: heart"),
        ("class HTTPHeart: ...", "line 1: heart"),
        ("heart_2 = beat3", "line 1: heart; line 1: beat"),
        ("def next_beat(): ...", "line 1: beat"),
        ("def nextBeats(): ...", "line 1: beats"),
        ("a.pulse.stop()", "line 1: pulse"),
        ("from ._inbox import Mail", "line 1: inbox"),
        ("a = 1\n# It was\n# told so.", "line 3: told"),
        ("# The surroundings of a passage.", "line 1: surroundings; line 1: passage"),
        ("# hands off", "line 1: hands off"),
        ("# Hands-off", "line 1: hands off"),
        ("# A route of which it keeps its hands\n# off.", "line 1: hands off"),
        ("hands_off = HANDS_OFF", "line 1: hands off; line 1: hands off"),
        ('"""Names.\n\nLaw: names.\n"""', "line 3: Law:"),
        ("# Law: names.", "line 1: Law:"),
        ('"""Hear of it."""', "line 1: a docstring that begins with 'Hear'"),
        (
            'class A:\n    """\n    Take it.\n    """',
            "line 2: a docstring that begins with 'Take'",
        ),
        ('def f():\n    """Let\'s go."""', "line 2: a docstring that begins with 'Let'"),
        ('async def f():\n    """Have it."""', "line 2: a docstring that begins with 'Have'"),
        ('a = 1\n"""Tell."""', "line 2: a docstring that begins with 'Tell'"),
        ('"""See that it is."""', "line 1: a docstring that begins with 'See that'"),
    ],
)
def test_a_banned_word_is_seen(text, complaint):
    assert "; ".join(vocabulary_complaints(text)) == complaint


@pytest.mark.parametrize(
    "word",
    [
        *("heart", "hearts", "beat", "beats", "beating", "pulse", "pulses", "pulsing"),
        *("walk", "walks", "walked", "walking", "saying", "sayings", "company", "companies"),
        *("seat", "seats", "seated", "heed", "heeds", "heeding", "passage", "passages"),
        *("surroundings", "told", "inbox", "inboxes", "deaf"),
    ],
)
def test_each_banned_word_is_seen_in_prose_and_in_names(word):
    for text in (f"# A {word}.", f"_the_{word}_x = the{word.title()}", f"# {word.upper()}"):
        assert f"line 1: {word}" in list(vocabulary_complaints(text))


@pytest.mark.parametrize(
    "text",
    [
        "keywords = ['heartbeat']  # a heartbeat, heartbeats",
        "class Heartbeat: ...",
        "# upbeat, sunbeaten, impulse, sidewalk",
        "# accompany, toldo, surrounding text, passageway",
        "# the hands are off, hand off, handoff, off hands",
        "# a law: the lawful, a flaw: Lawn:",
        "# Take it, see that it is, let go, tell: comments may say so.",
        'a = "Take it."',
        '"""Takes it."""',
        '"""Hears, lets, tells."""',
        '"""See `that`."""',
        '"""Letters, a tablet."""',
        '"""Having it."""',
        "a = b'\\beat'",
    ],
)
def test_other_words_are_allowed(text):
    assert list(vocabulary_complaints(text)) == []
