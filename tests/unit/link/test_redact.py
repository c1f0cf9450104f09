"""Diagnostics: no MAC, address, name, URL nor secret leaves; what helps stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.link import diagnose
from vigie.link.redact import redact
from vigie.link.report import Machine

GONE = [
    "02:00:5e:10:00:ff", "02-00-5E-10-00-FF", "0200.5e10.00ff", "02005e1000ff",
    "192.0.2.17", "192.0.2.0/24", "10.0.0.1",
    "2001:db8::1", "fe80::1%eth0", "::1", "2001:db8:0:0:0:0:0:1", "2001:DB8::/32", "::ffff:192.0.2.1",
    "[2001:db8::5]:443",
    "www.mairie-exemple.fr", "pc-accueil.lan", "printer.local", "a.b.c.example.com.", "école-jules-ferry.fr",
    "xn--cole-9oa.fr", "secret.py", "_ldap._tcp.mairie.fr",
    "jeanne.dupont@mairie-exemple.fr", "https://intranet.mairie.fr/paie?id=3", "http://192.0.2.1/x",
    "ab" * 20, "QWxhZGRpbjpvcGVuIHNlc2FtZVF3ZXJ0eXVpb3BBU0RGR0g=",
]  # fmt: skip


@pytest.mark.parametrize("secret", GONE)
@pytest.mark.parametrize(
    "frame", ["{}", "x {} y", '{{"k": "{}"}}', "from={},", "({})", "a\t{}\nb", "'{}'", "dst {}: refused"]
)
def test_gone(secret: str, frame: str) -> None:
    got = redact(frame.format(secret))
    bare = secret.strip("[]").rstrip(".")
    assert bare.lower() not in got.lower(), got
    for part in ("mairie", "dupont", "accueil", "5e:10", "db8:", "192.0.2", "jules"):
        assert part not in got.lower(), got


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T09:36:58+0000 vigie-filter.service: Failed with result 'exit-code'.",
        '{"rows": 12, "boot": 3, "blocked": 0.5, "ok": true}',
        "base.vgb: 1200 bytes, expected 1300",
        "mqtt.vigie.example:8883: no answer in 10 s",
        "uptime_s 3600",
        "version 0.1.0, kernel 6.1.0-13-arm64",
        "12:34:56 restarting",
    ],
)
def test_kept(text: str) -> None:
    assert redact(text, keep=("mqtt.vigie.example",)) == text


def test_words_without_a_dot() -> None:
    text = "Hostname: PC-ACCUEIL, user=jdupont, ssid = 'Mairie', box vigie-0042 says hello to PC-COMPTA"
    got = redact(text, names=("vigie-0042", "PC-COMPTA"))
    for word in ("ACCUEIL", "jdupont", "Mairie", "0042", "COMPTA"):
        assert word not in got, got


BYTES = st.binary(min_size=6, max_size=6)


@given(BYTES, st.sampled_from([":", "-"]), st.booleans(), st.text(" ,;()=\n", max_size=3))
def test_no_mac_leaves(mac: bytes, separator: str, upper: bool, around: str) -> None:
    text = mac.hex(separator)
    text = text.upper() if upper else text
    assert text not in redact(f"dev{around} {text}{around}")


@given(st.ip_addresses(), st.text(" ,;()=\n\"'", max_size=3))
def test_no_address_leaves(address: object, around: str) -> None:
    got = redact(f"to{around} {address}{around}")
    assert str(address) not in got or str(address) == "::", got


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    once = redact(text)
    assert redact(once).count("@") <= once.count("@")


# ---- what is collected -----------------------------------------------------------------------------------------

STATUS: dict[str, Any] = {
    "uptime_s": 12.5,
    "base": {"version": 7, "file": "/data/vigie/base.vgb"},
    "gateways": [{"mac": "02:00:00:00:00:01", "address": "192.0.2.1"}],
    "neighbours": [{"mac": "02:00:00:00:00:02", "name": "tablette-maire"}],
    "learned": [{"mac": "02:00:00:00:00:03", "port": 443}],
    "rules": [{"target": "casino.example"}],
    "quarantine": [{"mac": "02:00:00:00:00:04"}],
    "alerts": [{"mac": "02:00:00:00:00:05", "address": "198.51.100.1"}],
    "department": {"version": 3, "quarantine": [{"mac": "02:00:00:00:00:06", "left_s": 10}]},
    "problems": ["le journal n'est pas écrit : /data/vigie/journal.db"],
}


def collect(tmp_path: Path, wanted: tuple[str, ...] = (), log: str = "") -> dict[str, str]:
    def run(argv: tuple[str, ...]) -> str:
        assert argv == diagnose.LOG_COMMAND
        return log

    return diagnose.collect(
        wanted,
        status=STATUS,
        link={"code": "lost", "detail": "mqtt.vigie.example:8883: 192.0.2.9 refused"},
        enrol_status=tmp_path / "enrol.json",
        update_status=tmp_path / "update.json",
        machine=Machine(1, 2, 3, 0.5),
        keep=("mqtt.vigie.example",),
        run=run,
    )


def test_collected_and_reduced(tmp_path: Path) -> None:
    (tmp_path / "enrol.json").write_text(json.dumps({"code": "member", "serial": "VG-1"}))
    found = collect(tmp_path, log="vigie-page[3]: request from 192.0.2.55 (pc-compta.lan)\n" * 3000)
    assert set(found) == set(diagnose.ITEMS)
    everything = "\n".join(found.values())
    for secret in ("02:00", "192.0.2", "198.51", "tablette", "casino", "compta"):
        assert secret not in everything, secret
    assert '"version": 7' in found["filter"]
    assert "journal.db" in found["filter"]
    assert "mqtt.vigie.example" in found["link"]
    assert "member" in found["enrol"]
    assert sum(len(text.encode()) for text in found.values()) < 48 * 1024


def test_only_what_is_wanted(tmp_path: Path) -> None:
    assert set(collect(tmp_path, ("versions", "log", "unknown"))) == {"versions", "log"}


def test_a_program_that_is_not_there() -> None:
    assert diagnose.run_command(("no-such-program-here",)) == ""


@pytest.mark.parametrize(
    "text",
    [
        "<secret.example.fr>", "<a.secret.fr>, <mac>", "v10.0.0.7", "lan_10.0.0.7", "10.0.0.7a", "10.0.0.7_x",
        "ip-10-0-0-7", "www\u3002secret\u3002fr", "10.0.0.7.log",
    ],
)  # fmt: skip
def test_gone_whatever_touches_it(text: str) -> None:
    got = redact(f"seen {text} today")
    assert "secret" not in got and "10.0.0" not in got and "10-0-0" not in got, got
