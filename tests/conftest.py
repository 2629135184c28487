"""Every test that takes a `backend` runs on asyncio and on trio."""

import pytest
from endings import Log
from harness import BACKENDS
from hypothesis import HealthCheck, settings

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
