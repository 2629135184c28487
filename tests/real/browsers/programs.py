"""Programs that browsers need: started in a process group, ended with all their children."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from real.processes import inherited


def find(name: str) -> str:
    """Return a program's path."""
    return shutil.which(name) or name


@contextmanager
def started(
    command: list[str], folder: str, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its children, and leave none of them behind.

    Args:
        command: What is run.
        folder: Its home directory.
        options: For `subprocess.Popen`; `env` is added to the environment.
    """
    own = {"HOME": folder, "XDG_RUNTIME_DIR": folder, "LANG": "en_US.UTF-8"}
    own |= options.pop("env", {})
    process = subprocess.Popen(
        command,
        env=inherited() | own,
        stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def display(folder: str) -> Iterator[dict[str, str]]:
    """Run a display without a screen; return the variable that names it."""
    reading, writing = os.pipe()
    command = [find("Xvfb"), "-displayfd", str(writing), "-nolisten", "tcp"]
    with os.fdopen(reading) as told, started(command, folder, pass_fds=[writing]):
        os.close(writing)
        yield {"DISPLAY": f":{told.readline().strip()}"}
