"""What holds for all tests.

Every test that takes a `backend` runs on asyncio and on trio.
"""

import gc
import os
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("support", "model", "real")

from hypothesis import HealthCheck, settings  # noqa: E402
from support import skipped  # noqa: E402
from support.endings import Log  # noqa: E402
from support.harness import BACKENDS  # noqa: E402

TESTS = Path(__file__).parent
ALL_SLOW = (TESTS / "model", TESTS / "package", TESTS / "performance")
SLOW_TIMEOUT = 300.0

COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("dev", COMMON, max_examples=30, derandomize=True)
# In place of Hypothesis's own profile of that name, which is derandomized too.
settings.register_profile("ci", COMMON, max_examples=200, derandomize=True, print_blob=True)
settings.register_profile("explore", COMMON, max_examples=1000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def frozen_heap() -> None:
    """Spare the garbage collector what there is before a module's tests."""
    freeze_heap()


def freeze_heap() -> None:
    gc.collect()
    gc.freeze()  # for good: what tests have left is little


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests on trio, and give tests that are slow more time than others."""
    callspec: Any = getattr(item, "callspec", None)
    if callspec is not None and callspec.params.get("backend") == "trio":
        item.add_marker(pytest.mark.trio)
    if any(folder in item.path.parents for folder in ALL_SLOW):
        item.add_marker(pytest.mark.slow)
    takes_long = item.get_closest_marker("slow") or item.get_closest_marker("real")
    if takes_long and not item.get_closest_marker("timeout"):
        item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


def pytest_configure(config: pytest.Config) -> None:
    """Make pytest-xdist distribute the files in order, not by their number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow files first, so that no process is left with one at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: tests for leaks call it often."""
    freeze_heap()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, in one line for each reason; `-rs` names the tests."""
    reports = terminalreporter.stats.get("skipped", [])
    if reports and not terminalreporter.hasopt("skipped"):
        terminalreporter.section("why tests were skipped")
        for line in skipped.summary(report.longrepr[2] for report in reports):
            terminalreporter.line(line)
