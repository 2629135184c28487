"""The tutorial, followed to its end: each command shows what the page shows."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from real import parts
from real.docs.how_tos import FOLDER, listening
from real.http_clients import PING
from real.processes import PATIENCE, Process, running, wait_for
from support.saved_files import save, saved_files

pytestmark = [pytest.mark.real, pytest.mark.slow]

PAGE = (FOLDER.parent / "tutorial.md").read_text(encoding="utf-8")
TIMES = {
    r"interval=(\d)\.0": r"interval=0.\1",
    r"sleep\(9\)": "sleep(0.9)",
    r"timeout=5": "timeout=0.5",
    r"drain=3\.0": "drain=0.3",
}
"""All durations of the page are a tenth here."""
TRIES = 4
"""On a busy machine a ping may be too late to fit into an idle period of a tenth."""


def quicker(text: str) -> str:
    for before, after in TIMES.items():
        text = re.sub(before, after, text)
    return text


class Section:
    """A section of the page: its commands, and its outputs."""

    def __init__(self, title: str) -> None:
        self.before, _, rest = PAGE.partition(f"\n## {title}\n")
        self.text = rest.partition("\n## ")[0]
        assert self.text, title
        blocks = re.findall(r"^```(sh|text)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        self.commands = [code for kind, code in blocks if kind == "sh"]
        self.outputs = [code for kind, code in blocks if kind == "text"]

    def save(self, folder: Path, change: Callable[[str], str] = quicker) -> None:
        """Save what the page has had its reader save by the end of the section."""
        files = saved_files(self.before + self.text)
        save({name: change(code) for name, code in files.items()}, folder)

    def serving(self, folder: Path, command: str = ""):
        """Serve what the section does."""
        program, app = shlex.split(command or self.commands[0])
        assert program == ".venv/bin/uvicorn"
        folder.mkdir(exist_ok=True)
        self.save(folder)
        return running(
            "uvicorn",
            lambda port: [sys.executable, "-m", "uvicorn", app, "--port", str(port)],
            folder,
        )


def output(process: Process, command: str) -> str:
    """Return what a client's command prints."""
    text = quicker(command).replace(":8000", f":{process.port}")
    if not text.startswith("curl"):
        text = text.replace(".venv/bin/python", shlex.quote(sys.executable))
    else:
        parts.need("program:curl")
    done = subprocess.run(
        ["sh", "-c", text.replace("curl ", "curl -s ")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},  # as on a terminal: in the order of time
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout


def with_ellipsis(text: str) -> str:
    """Shorten a traceback as the page does."""
    return re.sub(
        r"(Traceback .*?:\n).*\n(\w+Error: .*\n)", r"\1...\n\2", text, flags=re.DOTALL
    )


def test_a_stream_that_is_dropped(tmp_path):
    section = Section("A stream that is dropped")
    with section.serving(tmp_path) as process:
        assert with_ellipsis(output(process, section.commands[1])) == section.outputs[0]


def test_a_stream_that_is_kept_alive(tmp_path):
    section, before = (
        Section("A stream that is kept alive"),
        Section("A stream that is dropped"),
    )
    with section.serving(tmp_path, before.commands[0]) as process:
        assert output(process, section.commands[0]) == section.outputs[0]
        assert output(process, before.commands[1]).endswith("b'data: 42\\n'\nb'\\n'\n")


def test_different_options_for_some_paths(tmp_path):
    section = Section("Set options by path")
    with section.serving(tmp_path) as process:
        for command, shown in zip(section.commands[1:], section.outputs, strict=True):
            assert output(process, command) == shown


def test_the_streams_of_one_user(tmp_path):
    section = Section("End the streams of one user")
    path, log_out = [command.strip().partition(":8000")[2] for command in section.commands[1:]]
    with section.serving(tmp_path) as process, listening(process, path) as stream:
        stream.read_until(lambda body: PING in body)
        answer = httpx.post(process.url(log_out), timeout=PATIENCE)
        assert answer.text == "logged out\n"
        body = stream.read().decode()
        events = section.outputs[0].split("\n\n")
        assert (
            re.sub("(event: ping\ndata: \n\n)+", r"\1", body).split("\n\n")[:-1] == events[:-1]
        )


def test_all_streams_on_shutdown(tmp_path):
    section = Section("End all streams on shutdown")
    with section.serving(tmp_path) as process, listening(process, "/think") as stream:
        stream.read_until(len)
        process.process.send_signal(signal.SIGINT)
        assert stream.read().decode() == section.outputs[0]
        assert process.gone_within(PATIENCE)


def test_without_it_uvicorn_does_not_stop(tmp_path):
    news = Section("End the streams of one user")
    (words,) = re.findall(r"uvicorn prints `(.+?)`", PAGE)
    with news.serving(tmp_path) as process, listening(process, "/news/ada") as stream:
        stream.read_until(len)
        process.process.send_signal(signal.SIGINT)
        wait_for(lambda: words in process.log, "what uvicorn says")
        stream.read_until(lambda body: body.count(PING) >= 5)
        assert process.gone_at is None


def test_streams_are_observed(tmp_path):
    section = Section("Observe streams")
    seen = []
    while section.outputs[0] not in seen and len(seen) < TRIES:
        with section.serving(tmp_path / str(len(seen))) as process:
            httpx.get(process.url("/think"), timeout=PATIENCE)
            wait_for(lambda: "ended" in process.log, "the end")
            lines = re.findall(r"^(?:started|ping|ended) .*\n", process.log, re.MULTILINE)
        seen.append("".join(lines))
    assert section.outputs[0] in seen, seen


def test_a_check_without_waiting(tmp_path):
    section = Section("Test without waiting")
    section.save(tmp_path, change=lambda code: code)
    program, file = shlex.split(section.commands[0])
    assert program == ".venv/bin/python"
    done = subprocess.run(
        [sys.executable, file],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=8,  # less than the stream takes
        check=True,
    )
    assert done.stdout == section.outputs[0]


def test_every_command_shows_its_output():
    for title in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)[:-1]:
        section = Section(title)
        assert len(section.outputs) >= 1, title
        assert section.commands, title
