"""Django over ASGI, with `StreamingHttpResponse`, as an `asgi.py` has it.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path
from real.frameworks.streams import EVENTS, NDJSON, OPTIONS, RECORDS, WHOLE, note, paced
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


async def events(_: HttpRequest) -> StreamingHttpResponse:
    """Stream events."""
    body = paced(tuple(f"data: {name}\n\n" for name in EVENTS))
    return StreamingHttpResponse(body, content_type="text/event-stream")


async def records(_: HttpRequest) -> StreamingHttpResponse:
    """Stream NDJSON."""
    return StreamingHttpResponse(paced(RECORDS), content_type=NDJSON)


async def whole(_: HttpRequest) -> JsonResponse:
    """Answer with something that is no stream."""
    return JsonResponse(WHOLE)


urlpatterns = [path(each.__name__, each) for each in (events, records, whole)]


def finished(**_: object) -> None:
    """Record that a request is finished: Django's way to run something afterwards."""
    note("background ran")


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive."""
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="none")
    django.setup()
    request_finished.connect(finished)
    application = KeepaliveMiddleware(get_asgi_application(), **OPTIONS)
    return {"plain": get_asgi_application(), "kept": application}
