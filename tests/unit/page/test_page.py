"""The page: what it shows, who may see it, and what a form must bring along."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from urllib.parse import urlencode

import pytest

from vigie.enrol import status
from vigie.enrol.codes import LAMPS, Code, sentence
from vigie.enrol.status import State, Status
from vigie.errors import LinkError
from vigie.host import addressing
from vigie.host.boxconfig import BoxConfig, Paths
from vigie.host.net import Interface
from vigie.i18n import use
from vigie.page.app import application
from vigie.page.guard import BODY_MAX, known_host, on_link

LOCAL = "169.254.10.20/16"


@dataclass
class Got:
    status: int
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


class Bridge:
    """br0 with given addresses."""

    def __init__(self, *addresses: str) -> None:
        self.here: list[Interface] = [ip_interface(a) for a in addresses]

    def link(self, _name: str) -> Bridge:
        return self

    index = 3

    def addresses(self, _index: int) -> list[Interface]:
        return self.here


class Browser:
    """Speaks ASGI to the page, as a client on the cable."""

    def __init__(self, folder: Path, *addresses: str) -> None:
        self.paths = Paths(state=folder / "state", run=folder / "run", trust=folder, identity=folder)
        self.bridge = Bridge(*(addresses or (LOCAL,)))
        self.app = application(BoxConfig("vigie.lab", paths=self.paths), self.bridge)  # type: ignore[arg-type]
        self.client, self.host = "169.254.7.7", "169.254.10.20"
        self.cookie = ""

    def ask(
        self, method: str = "GET", path: str = "/", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Got:
        sent = {"host": self.host} | ({"cookie": self.cookie} if self.cookie else {}) | dict(headers or {})
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "path": path.partition("?")[0], "root_path": "",
            "raw_path": path.encode(), "query_string": path.partition("?")[2].encode(), "scheme": "http",
            "headers": [(k.encode(), v.encode()) for k, v in sent.items()], "client": (self.client, 50000),
            "server": (self.host, 80),
        }  # fmt: skip
        messages: list[dict[str, object]] = []

        coming: list[dict[str, object]] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, object]:
            return coming.pop() if coming else {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            messages.append(message)

        asyncio.run(self.app(scope, receive, send))  # type: ignore[arg-type]
        start = messages[0]
        pairs = [(k.decode(), v.decode()) for k, v in start["headers"]]  # type: ignore[attr-defined]
        text = b"".join(m.get("body", b"") for m in messages[1:])  # type: ignore[misc]
        found = Got(int(start["status"]), pairs, text.decode())  # type: ignore[call-overload]
        if found.header("set-cookie"):
            self.cookie = found.header("set-cookie").partition(";")[0]
        return found

    def post(self, fields: Mapping[str, str], **headers: str) -> Got:
        base = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{self.host}"}
        return self.ask("POST", "/adresse", urlencode(fields).encode(), base | headers)

    def token(self) -> str:
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.ask().body)
        assert found is not None
        return found[1]

    def wish(self) -> dict[str, object] | None:
        path = addressing.request_path(self.paths)
        return json.loads(path.read_text()) if path.exists() else None


FORM = {"mode": "fixed", "address": "192.168.1.20", "prefix": "24", "gateway": "192.168.1.1", "dns": "192.168.1.1"}


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


def test_each_code_is_shown_with_its_sentence(browser: Browser) -> None:
    for code in Code:
        shown = Status(State.WAITING, code, 1_800_000_000.0, "vg-abcdefghijklmnop", "VG-2026-1", "7K3D-M2QF-9TXA")
        status.write(browser.paths.enrol, shown)
        body = browser.ask().body
        text = sentence(code).replace("'", "&#39;")
        assert text in body and code.value in body and "7K3D-M2QF-9TXA" in body and "VG-2026-1" in body


def test_a_box_that_just_starts_has_a_page(browser: Browser) -> None:
    found = browser.ask()
    assert found.status == 200 and "cherche le département" in found.body and "169.254.10.20" in found.body


def test_nothing_comes_from_outside(browser: Browser) -> None:
    body = browser.ask().body
    links = re.findall(r'(?:href|src|action)="([^"]*)"', body)
    assert links and all(link.startswith("/") and not link.startswith("//") for link in links), links
    assert "<script" not in body and "style=" not in body
    css = browser.ask(path="/static/page.css")
    assert css.status == 200 and "url(" not in css.body and "@import" not in css.body
    for found in (browser.ask(), css, browser.ask(path="/nowhere")):
        assert "default-src 'none'" in found.header("content-security-policy")
        assert found.header("x-frame-options") == "DENY" and found.header("x-content-type-options") == "nosniff"


def test_what_the_box_says_of_itself_is_escaped(browser: Browser) -> None:
    path = browser.paths.enrol / status.FILE
    status.write(browser.paths.enrol, Status(serial="<script>alert(1)</script>"))
    assert "<script>" in path.read_text()
    assert "<script>" not in browser.ask().body


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("169.254.7.7", True),
        ("::ffff:169.254.7.7", True),
        ("fe80::1%br0", True),
        ("192.168.1.9", False),
        ("203.0.113.9", False),
        ("2001:db8::1", False),
        ("", False),
        ("unix", False),
    ],
)
def test_only_clients_on_the_cable(browser: Browser, client: str, allowed: bool) -> None:
    browser.bridge.here.append(ip_interface("fe80::2/64"))
    browser.client = client
    for path in ("/", "/static/page.css"):
        assert browser.ask(path=path).status == (200 if allowed else 403)
    assert on_link(client, browser.bridge.here) is allowed


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("169.254.10.20", True),
        ("169.254.10.20:80", True),
        ("[fe80::2]", True),
        ("vigie.local", True),
        ("VIGIE.LOCAL", True),
        ("169.254.10.21", False),
        ("evil.example", False),
        ("169.254.10.20.evil.example", False),
        ("user@169.254.10.20", False),
        ("169.254.10.20/x", False),
        ("", False),
        ("[", False),
        ("169.254.10.20:x", False),
    ],
)
def test_a_name_that_a_stranger_s_dns_points_here_is_refused(browser: Browser, host: str, known: bool) -> None:
    browser.bridge.here.append(ip_interface("fe80::2/64"))
    browser.host = host
    assert browser.ask().status == (200 if known else 421)
    assert known_host(host, browser.bridge.here) is known


def test_an_address_is_set(browser: Browser) -> None:
    found = browser.post(FORM | {"token": browser.token()})
    assert (found.status, found.header("location")) == (303, "/?fait")
    assert browser.wish() == {
        "v": 1, "mode": "fixed", "address": "192.168.1.20/24", "gateway": "192.168.1.1", "dns": ["192.168.1.1"],
    }  # fmt: skip
    assert "noté" in browser.ask(path="/?fait").body
    assert "192.168.1.20" in browser.ask().body  # to be changed again, or taken back
    found = browser.post({"mode": "dhcp", "token": browser.token()})
    assert found.status == 303 and browser.wish() == {"v": 1, "mode": "dhcp"}


def test_a_mistake_is_said_and_what_was_typed_is_kept(browser: Browser) -> None:
    found = browser.post(FORM | {"gateway": "10.0.0.1", "token": browser.token()})
    assert found.status == 422 and "10.0.0.1" in found.body and "aria-invalid" in found.body
    assert browser.wish() is None


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, "0" * 64),
        ({}, ""),
        ({}, "é"),
        ({"origin": "http://evil.example"}, None),
        ({"origin": "null"}, None),
        ({"origin": ""}, None),
        ({"origin": "http://169.254.10.20:8080"}, None),
        ({"sec-fetch-site": "cross-site"}, None),
        ({"sec-fetch-site": "same-site"}, None),
        ({"sec-fetch-site": "none"}, None),
        ({"content-type": "text/plain"}, None),
        ({"cookie": ""}, None),
        ({"cookie": "vigie=" + "A" * 43}, None),
    ],
)
def test_a_form_from_elsewhere_changes_nothing(browser: Browser, headers: dict[str, str], token: str | None) -> None:
    good = browser.token()
    found = browser.post(FORM | {"token": good if token is None else token}, **headers)
    assert found.status == 403 and browser.wish() is None, found


def test_a_form_that_is_too_large_is_not_read(browser: Browser) -> None:
    token = browser.token()
    found = browser.post(FORM | {"token": token, "dns": "1" * BODY_MAX})
    assert found.status == 403 and browser.wish() is None


def test_an_address_that_came_by_itself_cannot_be_replaced_by_whoever_passes(tmp_path: Path) -> None:
    browser = Browser(tmp_path, "192.168.1.33/24")
    browser.client, browser.host = "192.168.1.9", "192.168.1.33"
    found = browser.ask()
    assert found.status == 200 and "<form" not in found.body
    other = Browser(tmp_path)
    browser.cookie, token = other.cookie, other.token()
    assert browser.post(FORM | {"token": token}).status == 403
    browser.bridge.here = [ip_interface(LOCAL)]
    browser.client, browser.host, browser.cookie = "169.254.7.7", "169.254.10.20", ""
    token = browser.token()
    browser.bridge.here.append(ip_interface("192.168.1.33/24"))  # a lease came meanwhile
    assert browser.post(FORM | {"token": token}).status == 409 and browser.wish() is None


def test_a_fixed_address_of_ours_can_be_changed_again(tmp_path: Path) -> None:
    browser = Browser(tmp_path, "192.168.1.20/24")
    browser.client, browser.host = "192.168.1.9", "192.168.1.20"
    path = addressing.report_path(browser.paths)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"fixed": {"address": "192.168.1.20/24"}, "problem": "conflict"}))
    body = browser.ask().body
    assert "<form" in body and "autre machine" in body


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/..%2fapp.py", "/.env", "/adresse"])
def test_nothing_else_is_served(browser: Browser, path: str) -> None:
    assert browser.ask(path=path).status in (404, 405)


def test_a_bridge_that_is_gone_lets_nobody_in(browser: Browser) -> None:
    def gone(_name: str) -> Bridge:
        raise LinkError("device br0 does not exist", 19)

    browser.bridge.link = gone  # type: ignore[method-assign]
    assert browser.ask().status == 403


def test_each_code_has_a_sentence_in_both_languages_and_a_lamp_of_its_own() -> None:
    french = {code: sentence(code) for code in Code}
    before = use("en")
    try:
        english = {code: sentence(code) for code in Code}
    finally:
        use(before)
    assert all(french[code] and english[code] != french[code] for code in Code), "a translation is missing"
    assert len(set(french.values())) == len(Code) and len(set(LAMPS.values())) == len(Code) == len(LAMPS)
    assert all(0 <= lamp.flashes <= 8 for lamp in LAMPS.values())  # more than that nobody counts
    assert {code.value for code in Code} == {re.sub(r"[^a-z0-9-]", "", code.value) for code in Code}


def test_a_status_survives_writing_and_nonsense(tmp_path: Path) -> None:
    shown = Status(State.WAITING, Code.PORTAL, 5.0, "vg-x", "S", "C", "m", 7.0, 9.0, (Code.MQTT_BLOCKED,), "why")
    status.write(tmp_path, shown)
    assert status.read(tmp_path) == shown
    for text in ("", "{}", "[]", '{"state": 1, "code": 2}', '{"state":"waiting","code":"portal","serial":7}', "\0"):
        (tmp_path / status.FILE).write_text(text)
        assert status.read(tmp_path) == Status()
    again = Status(code=Code.PORTAL, since=99.0).changed(shown)
    assert again.since == 5.0 and Status(code=Code.CLONE, since=99.0).changed(shown).since == 99.0


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('{"volatile": true, "reason": "damaged"}', True),
        ('{"volatile": false, "reason": ""}', False),
        ("{", False),
        ("[]", False),
        (None, False),
    ],
)
def test_a_box_without_its_disk_says_so(tmp_path: Path, said: str | None, shown: bool) -> None:
    """vigie-storage writes it; the page is what the mairie sees of it."""
    browser = Browser(tmp_path)
    if said is not None:
        browser.paths.run.mkdir(parents=True)
        (browser.paths.run / "storage.json").write_text(said)
    found = browser.ask()
    assert found.status == 200
    assert ("La mémoire du boîtier est abîmée" in found.body) is shown
