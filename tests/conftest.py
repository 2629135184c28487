"""Every test that takes a `backend` runs on asyncio and on trio."""

import pytest

pytest.register_assert_rewrite("support", "model", "real")

from hypothesis import HealthCheck, settings  # noqa: E402
from support.endings import Log  # noqa: E402
from support.harness import BACKENDS  # noqa: E402

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def log() -> Log:
    return Log()
