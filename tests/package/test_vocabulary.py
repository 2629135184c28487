"""The package's words: standard terms, and no figures of speech where one of those exists.

The check is a function from source text to complaints, and is fed bad and good examples too.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from support.sources import of_each_module

BANNED_WORDS = re.compile(
    r"hearts?|beat(s|en|ing)?|pulse[sd]?|pulsing|walk(s|ed|ing|ers?)?|sayings?|compan(y|ies)"
    r"|seat(s|ed|ing)?|heed(s|ed|ing)?|passages?|surroundings|told|inbox(es)?|deaf(ness)?"
)
BANNED_PAIRS = {("hands", "off")}
BANNED_HEADINGS = re.compile(r"\bLaw:")
BANNED_OPENINGS = re.compile(r"\s*(Hear|See\s+that|Have|Take|Tell|Let)\b")

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


def test_the_package_uses_standard_terms():
    assert of_each_module(vocabulary_complaints) == []


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
