"""The application: one page, one form."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vigie.enrol import status as enrol_status
from vigie.enrol.codes import INFORMATION, Code, sentence
from vigie.errors import HostError, LinkError
from vigie.host import addressing
from vigie.host.addressing import DHCP, AddressError
from vigie.host.boxconfig import BoxConfig
from vigie.host.files import read_json, write_json
from vigie.host.net import Interface, Net, NetReader
from vigie.i18n import _, ngettext
from vigie.page.guard import COOKIE, TOKEN, Guard, Tokens, form, same_site

log = logging.getLogger("vigie.page")

STATIC: Final = Path(__file__).parent / "static"
STORAGE: Final = "storage.json"
FIELDS: Final = ("address", "prefix", "gateway", "dns")


class Page:
    """What the handlers share."""

    def __init__(self, config: BoxConfig, net: NetReader) -> None:
        self._config = config
        self._net = net
        self._tokens = Tokens()
        self._templates = Environment(
            loader=PackageLoader("vigie.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.globals.update(_=_, ngettext=ngettext)

    def interfaces(self) -> list[Interface]:
        """Addresses of the bridge."""
        with contextlib.suppress(LinkError):
            return self._net.addresses(self._net.link(self._config.bridge).index)
        return []

    def may_change(self) -> bool:
        """Only where no address came by itself: without DHCP, or where a fixed one is in force."""
        report = read_json(addressing.report_path(self._config.paths)) or {}
        ours = str((report.get("fixed") or {}).get("address"))
        return not any(i.version == 4 and not i.ip.is_link_local and str(i) != ours for i in self.interfaces())

    # -- handlers

    async def show(self, request: Request) -> Response:
        """GET /"""
        return self._render(request, {}, "")

    async def change(self, request: Request) -> Response:
        """POST /adresse: the wish is checked, then left for `vigie address run`."""
        values = await form(request)
        if values is None or not same_site(request) or not self._tokens.good(request, values.get(TOKEN, "")):
            return self._render(request, {}, _("La page avait expiré : recommencez."), 403)
        if not self.may_change():
            return self._render(request, {}, _("Le réseau donne déjà une adresse au boîtier."), 409)
        try:
            wish = DHCP if values.get("mode") == "dhcp" else addressing.parse_form(values).to_json()
        except AddressError as e:
            return self._render(request, {"values": values, "field": e.field}, str(e), 422)
        try:
            write_json(addressing.request_path(self._config.paths), wish)
        except HostError as e:
            log.error("%s", e)
            return self._render(request, {"values": values}, _("La mémoire du boîtier est pleine ou abîmée."), 507)
        return RedirectResponse("/?fait", 303)

    def _render(self, request: Request, more: dict[str, Any], error: str, status: int = 200) -> Response:
        visitor = self._tokens.visitor(request)
        text = self._templates.get_template("index.html").render(
            **self._facts(), **({"values": {}, "field": ""} | more), error=error, done="fait" in request.query_params,
            token=self._tokens.token(visitor), may_change=self.may_change(),
        )  # fmt: skip
        response = HTMLResponse(text, status)
        response.set_cookie(COOKIE, visitor, httponly=True, samesite="strict", path="/")
        return response

    def _facts(self) -> dict[str, Any]:
        found = enrol_status.read(self._config.paths.enrol)
        report = read_json(addressing.report_path(self._config.paths)) or {}
        kept = read_json(addressing.request_path(self._config.paths)) or DHCP
        shown = [i for i in self.interfaces() if not (i.version == 6 and i.ip.is_link_local)]
        return {
            "status": found,
            "sentence": found.sentence(),
            "kind": "good" if found.code is Code.MEMBER else "wait" if found.code in INFORMATION else "bad",
            "notes": [sentence(note) for note in found.notes],
            "since": _moment(found.since),
            "addresses": [str(i.ip) for i in shown],
            "link_local": bool(shown) and all(i.ip.is_link_local for i in shown),
            "fixed": kept if kept.get("mode") == "fixed" else None,
            "conflict": report.get("problem") == "conflict",
            "volatile": self._volatile(),
        }

    def _volatile(self) -> bool:
        """Whether the box works without its disk (vigie-data.service): nothing is kept beyond this start."""
        with contextlib.suppress(HostError):
            return (read_json(self._config.paths.run / STORAGE) or {}).get("volatile") is True
        return False


def _moment(unix_s: float) -> str:
    """Local date and time, "" for none."""
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%d/%m/%Y à %H:%M") if unix_s else ""


def application(config: BoxConfig, net: NetReader | None = None) -> Starlette:
    """The page of this box."""
    page = Page(config, net or Net())
    interfaces: Callable[[], list[Interface]] = page.interfaces
    return Starlette(
        routes=[
            Route("/", page.show, methods=["GET"]),
            Route("/adresse", page.change, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, interfaces=interfaces)],
    )
