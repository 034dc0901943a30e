"""The monitor's process: NiceGUI on one address, behind guards, with the feed beside it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.config import read_endpoints
from gateway.monitor.feed import Feed
from gateway.monitor.users import IDLE_S, Sessions
from gateway.surveillance import Surveillance

log = logging.getLogger(__name__)

# Vue compiles its templates in the browser, which needs eval; everything comes from this host and nowhere else.
CONTENT_POLICY: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'"
)
HEADERS: Final = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
LEFT: Final = 499  # a web server's word for it; nobody reads it
NO_ANSWER: Final = "No response returned."  # starlette's words
METRICS_S: Final = 1.0
KNOCK_S: Final = 0.05  # until the server listens
# A browser that was away for so long finds its page as it left it, with what was typed; a later one gets a new page.
# A pong of the browser may take 0.4 of it.
RECONNECT_S: Final = 20.0

Action = Callable[[str, str], str]  # (key name of the person, reason) → what came of it


class Guard:
    """ASGI: refuses whatever comes from another site's page (CSRF, also by WebSocket); sets the headers of safety."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and not same_site(origin, headers.get(b"host", b"").decode("latin-1")):
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 4403})
                return
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"another site's page may not do that"})
            return

        begun = False

        async def guarded(message: dict[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self.app(scope, receive, guarded)
        if scope["type"] == "http" and not begun:  # the browser left; no answer at all would be an error further out
            await guarded({"type": "http.response.start", "status": LEFT, "headers": []})
            await guarded({"type": "http.response.body", "body": b""})


class Left(logging.Filter):
    """Of the web server's errors: a browser that left in the middle of a request is none, and is told in one line.

    A middleware further out than `Guard` may find that nobody answered; it raises this, and nothing else does.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """False for what is dropped."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RuntimeError) and str(error) == NO_ANSWER:
            log.info("a browser left in the middle of a request")
            return False
        return True


def same_site(origin: str, host: str) -> bool:
    """True where a page of ``origin`` and a request to ``host`` are of one site."""
    return bool(host) and urlsplit(origin).netloc == host


def read_metrics(folder: Path) -> dict[str, float]:
    """The exchange's own metrics, without labels; nothing where it serves none."""
    endpoints = read_endpoints(folder)
    if endpoints is None or not endpoints.metrics:
        return {}
    try:
        with urllib.request.urlopen(endpoints.metrics, timeout=METRICS_S) as answer:
            lines = answer.read().decode().splitlines()
    except (OSError, ValueError):
        return {}
    found = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        if name.startswith("cea_") and "{" not in name:
            found[name] = float(value)
    return found


async def announce(folder: Path, host: str, port: int, text: str) -> None:
    """Writes run/monitor.json once the server listens: whoever reads it finds the page."""
    while True:
        try:
            _, knock = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(KNOCK_S)
        else:
            knock.close()
            break
    spare = folder / "run" / "monitor.tmp"
    spare.write_text(text)
    os.replace(spare, folder / "run" / "monitor.json")


def free_port(host: str) -> int:
    """A port that is free now."""
    with socket.socket() as s:
        s.bind((host, 0))
        return int(s.getsockname()[1])


def run(
    folder: Path,
    key: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    make_watch: Callable[[], Surveillance] | None = None,
    actions: Mapping[str, Action] | None = None,
    idle_s: float = IDLE_S,
) -> None:
    """Serves the page until SIGTERM or SIGINT. ``key``: path of a viewer's key file.

    ``make_watch``: the surveillance of a new connection, with what its composer knows of groups and holdings.
    ``actions``: ``settle`` and ``bulletin``, where whoever composes the system has them. The address and the
    process's id are written into run/monitor.json.
    """
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(folder / "run" / "monitor"))
    os.environ.setdefault("MATPLOTLIB", "false")  # NiceGUI need not import it
    from nicegui import app, background_tasks, ui

    from gateway.monitor.pages import Pages

    feed = Feed(folder, key, make_watch=make_watch, metrics=lambda: read_metrics(folder))
    sessions = Sessions(folder / "keys", idle_s=idle_s)
    Pages(folder, feed, sessions, dict(actions or {})).register()
    port = port or free_port(host)
    address = f"http://{host}:{port}/"

    def started() -> None:
        feed.start()
        background_tasks.create(announce(folder, host, port, json.dumps({"url": address, "pid": os.getpid()})))
        log.info("monitor on %s", address)

    logging.getLogger("uvicorn.error").addFilter(Left())
    app.add_middleware(Guard)
    app.on_startup(started)
    app.on_shutdown(feed.stop)
    ui.run(
        host=host,
        port=port,
        title="cea monitor",
        reload=False,
        show=False,
        dark=None,
        storage_secret=secrets.token_hex(32),  # new at each start: whoever was logged in logs in again
        session_middleware_kwargs={"same_site": "strict", "max_age": max(1, int(idle_s)) * 4},
        show_welcome_message=False,
        reconnect_timeout=RECONNECT_S,
        uvicorn_logging_level="warning",
    )
