"""Every test that takes a `backend` runs on asyncio and on trio."""

import pytest
from hypothesis import HealthCheck, settings
from support.endings import Log
from support.harness import BACKENDS

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
