"""Who may see the page, and from where a form may come. In front of everything else, static files included.

The page has no password yet, so it only shows what the label says, and only lets an address be set while the box has
none of its own: who can reach it then has the box's cable in hand.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vigie.host.net import Interface
from vigie.i18n import _

COOKIE: Final = "vigie"
TOKEN: Final = "token"  # noqa: S105 - the name of a field
BODY_MAX: Final = 4096
NAMES: Final = frozenset({"vigie.local", "vigie.lan", "vigie"})
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(text: str) -> Address | None:
    """A peer's address without zone, IPv4 also where a dual-stack socket wrote it as IPv6; None for no address."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def on_link(client: str, interfaces: Iterable[Interface]) -> bool:
    """Whether a client is on the cable itself: in a network of one of the box's addresses."""
    found = address_of(client)
    return found is not None and any(found in interface.network for interface in interfaces)


def known_host(header: str, interfaces: Iterable[Interface]) -> bool:
    """Whether a Host header names this box: one of its addresses, or its local names. A name that a stranger's DNS
    points here (rebinding) does not."""
    try:
        parts = urlsplit(f"//{header}")
        name, _port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return False
    found = address_of(name)
    if found is None:
        return name in NAMES
    return any(found == interface.ip for interface in interfaces)


def same_site(request: Request) -> bool:
    """Whether a form was sent from a page of this very origin, as the browser tells (over plain HTTP: by Origin)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host", "")


class Tokens:
    """Form tokens: an HMAC of the visitor's cookie. The key lives as long as the process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def visitor(self, request: Request) -> str:
        """The cookie of this visitor, a fresh one for a new visitor."""
        kept = request.cookies.get(COOKIE, "")
        return kept if len(kept) == 43 and kept.isascii() else secrets.token_urlsafe(32)

    def token(self, visitor: str) -> str:
        """For the form."""
        return hmac.new(self._key, visitor.encode(), hashlib.sha256).hexdigest()

    def good(self, request: Request, token: str) -> bool:
        """Whether a token belongs to the visitor who sends it."""
        cookie = request.cookies.get(COOKIE, "")
        return bool(cookie) and hmac.compare_digest(self.token(cookie).encode(), token.encode())


async def form(request: Request) -> dict[str, str] | None:
    """A small urlencoded form; None when it is none, or too large."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return None
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > BODY_MAX:
            return None
    try:
        return dict(parse_qsl(data.decode("utf-8"), keep_blank_values=True, max_num_fields=16))
    except (ValueError, UnicodeDecodeError):
        return None


class Guard:
    """ASGI: lets on-link clients through that name this box, and gives each answer its headers."""

    def __init__(self, app: ASGIApp, interfaces: Callable[[], list[Interface]]) -> None:
        self._app = app
        self._interfaces = interfaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *raw]
            await send(message)

        request = Request(scope)
        refusal = self._refusal(request)
        answer: ASGIApp = self._app if refusal is None else refusal
        await answer(scope, receive, dressed)

    def _refusal(self, request: Request) -> Response | None:
        interfaces = self._interfaces()
        client = request.client.host if request.client else ""
        if not on_link(client, interfaces):
            return PlainTextResponse(_("Cette page ne se consulte que depuis le réseau de la mairie."), 403)
        if not known_host(request.headers.get("host", ""), interfaces):
            return PlainTextResponse(_("Adresse inconnue : tapez l'adresse du boîtier."), 421)
        return None
