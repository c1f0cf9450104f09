"""One address and port for every name: what passes, to whom, with which headers."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.https import Browser, mirror
from tests.support.servers import Servers, eventually
from vigie.contract.topics import down, up
from vigie.contract.words import Kind, Order
from vigie_department.signer.files import write_atomically


@pytest.fixture
def web(servers: Servers) -> Iterator[Servers]:
    """nginx in front of a mirror on both sockets."""
    repository = servers.config.paths.repository
    for folder in (repository / "metadata", repository / "targets/base", servers.config.paths.static):
        folder.mkdir(parents=True)
    write_atomically(repository / "metadata/timestamp.json", b'{"n":1}')
    write_atomically(repository / "metadata/12.snapshot.json", b'{"s":12}')
    write_atomically(repository / "targets/base/abc.base-12.vgb", bytes(range(256)) * 1000)
    write_atomically(servers.config.paths.static / "console.css", b"body{}" * 1000)
    with mirror(servers.config.paths.authority_socket), mirror(servers.config.paths.console_socket):
        servers.start_web()
        yield servers


def browser(servers: Servers, client: object = None, **more: str) -> Browser:
    return Browser(servers.certificates.roots, servers.config.ports.https, client, **more)  # type: ignore[arg-type]


def test_authority_learns_who_is_there_from_tls_and_nothing_from_the_client(web: Servers) -> None:
    box, host = web.certificates.box(), web.config.enrol_host
    forged = {"X-Vigie-Client-Verify": "SUCCESS", "X-Vigie-Client-Cert": "forged", "X-Vigie-Peer": "10.0.0.1",
              "X-Forwarded-For": "10.0.0.1", "x-vigie-client-verify": "SUCCESS"}  # fmt: skip
    for client, verdict in ((box, "SUCCESS"), (None, "NONE")):
        answer = browser(web, client).ask(host, "/v1/renew", method="POST", body=b"{}", headers=forged)
        got = answer.json()
        headers = [(name.lower(), value) for name, value in got["headers"]]
        assert got["line"] == "POST /v1/renew HTTP/1.1"
        assert [value for name, value in headers if name == "x-vigie-client-verify"] == [verdict]
        assert [value for name, value in headers if name == "x-vigie-peer"] == ["127.0.0.1"]
        assert [value for name, value in headers if name == "x-forwarded-for"] == ["127.0.0.1"]
        certificates = [value for name, value in headers if name == "x-vigie-client-cert"]
        if client is None:
            assert certificates == []
        else:
            (text,) = certificates
            passed = x509.load_pem_x509_certificate(urllib.parse.unquote(text).encode())
            assert passed == box.certificate


def test_certificates_of_others_and_expired_ones_do_not_pass_for_a_box(web: Servers, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            f"/CN={web.certificates.box().name}", "-keyout", f"{stranger}.key", "-out", f"{stranger}.pem"]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    expired = web.certificates.box(life=timedelta(seconds=-60))
    outside = browser(web)
    outside.context.load_cert_chain(f"{stranger}.pem", f"{stranger}.key")
    for client in (outside, browser(web, expired)):
        answer = client.ask(web.config.enrol_host, "/v1/renew", method="POST", body=b"{}")
        assert (answer.status, b"headers" in answer.body) == (400, False)


def test_only_the_api_of_the_authority_is_there_and_bodies_are_bounded(web: Servers) -> None:
    host = web.config.enrol_host
    assert browser(web).ask(host, "/").status == 404
    assert browser(web).ask(host, "/v1/../admin").status == 404
    assert browser(web).ask(host, "/v1/enrol", method="POST", body=b"x" * 65_000).status == 200
    assert browser(web).ask(host, "/v1/enrol", method="POST", body=b"x" * 66_000).status == 413


def test_a_flood_from_one_address_does_not_take_the_authority_from_the_others(web: Servers) -> None:
    statuses = browser(web).flood(web.config.enrol_host, "/v1/challenge", 900)
    assert statuses[:400] == [200] * 400
    assert statuses.count(429) > 100
    other = browser(web).ask(web.config.enrol_host, "/v1/challenge", method="POST", body=b"{}", source="127.0.0.2")
    assert other.status == 200


def test_repository_says_how_long_each_file_is_good_for_and_serves_ranges(web: Servers) -> None:
    client, host = browser(web), web.config.updates_host
    fresh = client.ask(host, "/tuf/metadata/timestamp.json")
    assert (fresh.status, fresh.body, fresh.headers["cache-control"]) == (200, b'{"n":1}', "no-cache")
    write_atomically(web.config.paths.repository / "metadata/timestamp.json", b'{"n":2}')
    assert client.ask(host, "/tuf/metadata/timestamp.json").body == b'{"n":2}'
    snapshot = client.ask(host, "/tuf/metadata/12.snapshot.json")
    assert (snapshot.status, "immutable" in snapshot.headers["cache-control"]) == (200, True)
    content = bytes(range(256)) * 1000
    whole = client.ask(host, "/tuf/targets/base/abc.base-12.vgb", headers={"Accept-Encoding": "gzip"})
    assert (whole.body, "content-encoding" in whole.headers) == (content, False)
    part = client.ask(host, "/tuf/targets/base/abc.base-12.vgb", headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, content[1000:2000])
    assert part.headers["content-range"] == "bytes 1000-1999/256000"
    for missing in ("/tuf/metadata/13.root.json", "/tuf/targets/base/nothing"):
        answer = client.ask(host, missing)
        assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")


def test_bundles_are_served_in_ranges_and_nothing_else_of_their_folder(web: Servers) -> None:
    client, host, content = browser(web), web.config.updates_host, bytes(range(256)) * 1000
    folder = web.config.paths.repository / "firmware"
    folder.mkdir()
    write_atomically(folder / "vigie-cm4-2026.12.1.raucb", content)
    write_atomically(folder / ".vigie-cm4-2026.12.2.raucb.1.new", content)
    (folder / "vigie-vm-2026.12.1.raucb").symlink_to("/etc/passwd")
    path = "/tuf/firmware/vigie-cm4-2026.12.1.raucb"
    part = client.ask(host, path, headers={"Range": "bytes=4096-8191"})
    assert (part.status, part.body, "immutable" in part.headers["cache-control"]) == (206, content[4096:8192], True)
    assert client.ask(host, path, method="HEAD").headers["accept-ranges"] == "bytes"
    for hidden in ("", ".vigie-cm4-2026.12.2.raucb.1.new", "vigie-vm-2026.12.1.raucb", "vigie-cm4-2026.12.3.raucb"):
        assert client.ask(host, f"/tuf/firmware/{hidden}").status in (403, 404), hidden


@pytest.mark.parametrize(
    "path",
    ["/", "/tuf/", "/tuf/metadata/", "/tuf/targets/", "/tuf/metadata/../../../etc/department.toml",
     "/tuf/targets/..%2f..%2fconsole/secret", "/tuf/targets/link", "/tuf/metadata/.timestamp.json.1.new"],
)  # fmt: skip
def test_repository_shows_nothing_else(web: Servers, path: str) -> None:
    (web.config.paths.repository / "targets/link").symlink_to("/etc/passwd")
    answer = browser(web).ask(web.config.updates_host, path)
    assert answer.status in (400, 403, 404), answer
    assert b"root:" not in answer.body


def test_repository_cannot_be_written(web: Servers) -> None:
    for method in ("PUT", "DELETE", "POST"):
        answer = browser(web).ask(web.config.updates_host, "/tuf/targets/base/new", method=method, body=b"x")
        assert answer.status in (403, 405), (method, answer)


def test_console_has_its_headers_once_and_its_static_files(web: Servers) -> None:
    client, host = browser(web), web.config.console_host
    page = client.ask(host, "/boxes/?q=secret", headers={"X-Forwarded-For": "10.0.0.1", "Host": host})
    forwarded = [value for name, value in page.json()["headers"] if name.lower() == "x-forwarded-for"]
    assert forwarded == ["127.0.0.1"]
    assert page.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["strict-transport-security"].startswith("max-age=")
    style = client.ask(host, "/static/console.css", headers={"Accept-Encoding": "gzip"})
    assert (style.status, style.headers["content-encoding"]) == (200, "gzip")
    assert style.headers["x-content-type-options"] == "nosniff"
    log = Path(web.web.access_log)
    eventually(lambda: '"/boxes/"' in log.read_text(), "not logged")
    assert "secret" not in log.read_text()


def test_fetches_of_boxes_are_logged_without_their_address(web: Servers) -> None:
    browser(web).ask(web.config.updates_host, "/tuf/metadata/timestamp.json", source="127.0.0.3")
    log = Path(web.web.access_log)
    eventually(lambda: "timestamp.json" in log.read_text(), "not logged")
    lines = [json.loads(line) for line in log.read_text().splitlines() if "timestamp" in line]
    assert "127.0.0.3" not in json.dumps(lines)
    assert lines[0]["status"] == 200


def test_other_names_get_no_certificate(web: Servers) -> None:
    for name in ("example.org", web.config.domain):
        context = ssl.create_default_context(cafile=str(web.certificates.roots))
        context.check_hostname = False
        unnamed = Browser(web.certificates.roots, web.config.ports.https)
        unnamed.context = context
        with pytest.raises(ssl.SSLError, match=r"UNRECOGNIZED_NAME|unrecognized name"):
            unnamed.ask(name, "/")


def test_sessions_are_resumed_and_old_protocols_refused(web: Servers) -> None:
    client = browser(web)
    resumed = [client.ask(web.config.updates_host, "/tuf/metadata/timestamp.json").resumed for _ in range(3)]
    assert resumed == [False, True, True]
    old = browser(web)
    old.context.minimum_version = ssl.TLSVersion.TLSv1_2
    old.context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert old.ask(web.config.updates_host, "/tuf/metadata/timestamp.json").status == 200


def test_broker_is_reached_on_the_web_port_by_its_name(web: Servers) -> None:
    web.start_broker()
    box, department = web.certificates.box(), web.certificates.department()
    with (
        web.session(department, "vigie/v1/+/up/+") as ingest,
        web.session(box, down(box.name, Order.COMMAND), port=web.config.ports.https) as session,
    ):
        session.say(up(box.name, Kind.ALERT), b"by 443")
        ingest.wait(lambda: bool(ingest.heard), "heard")
        ingest.say(down(box.name, Order.COMMAND), b"order")
        session.wait(lambda: bool(session.heard), "told")
    assert ingest.heard == [(up(box.name, Kind.ALERT), b"by 443")]
