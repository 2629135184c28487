"""Django refuses to start with the middleware in its setting MIDDLEWARE."""

import subprocess
import sys

import pytest
from real import parts

pytestmark = [pytest.mark.real, pytest.mark.parts]

PROJECT = """
import django
from django.conf import settings
from django.core.asgi import get_asgi_application

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="none", MIDDLEWARE={middleware})
urlpatterns = []
django.setup()
get_asgi_application()
"""


def start(middleware):
    command = [sys.executable, "-c", PROJECT.format(middleware=middleware)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_django_refuses_it_when_it_starts():
    parts.need("django")
    refused = start(["keepalive.KeepaliveMiddleware"])
    assert refused.returncode == 1
    assert "KeepaliveMiddleware must have at least one of sync_capable/async_capable" in (
        refused.stderr
    )
    assert start([]).returncode == 0
