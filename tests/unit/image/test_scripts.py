"""The small scripts beside the units: names and DHCP (vigie-network), requests without privilege (vigie-request)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.image.conftest import PACKAGE

FIXED = "run/vigie/address/resolv.conf"
LEASE = "run/systemd/netif/state"
DROPIN = "run/systemd/network/20-br0.network.d/50-fixed.conf"
RESOLV = "run/vigie-resolv.conf"
OPTIONS = "options timeout:2 attempts:2\n"


def network(root: Path) -> str:
    """Runs it once below a root; the resolv.conf that it makes."""
    (root / "run").mkdir(exist_ok=True)
    done = subprocess.run(
        [str(PACKAGE / "vigie-network"), str(root)], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    return (root / RESOLV).read_text()


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_servers_of_the_lease(tmp_path: Path) -> None:
    write(
        tmp_path,
        LEASE,
        "# This is private data. Do not parse.\nOPER_STATE=routable\nDNS=192.168.1.1 fe80::1%2\nNTP=10.0.0.1\n",
    )
    assert network(tmp_path) == "nameserver 192.168.1.1\nnameserver fe80::1%2\n" + OPTIONS
    assert not (tmp_path / DROPIN).exists()


def test_a_fixed_address_stops_dhcp_and_brings_its_servers(tmp_path: Path) -> None:
    write(tmp_path, LEASE, "DNS=192.168.1.1\n")
    write(tmp_path, FIXED, "nameserver 9.9.9.9\nnameserver 10.1.2.3\n")
    assert network(tmp_path) == "nameserver 9.9.9.9\nnameserver 10.1.2.3\n" + OPTIONS
    assert (tmp_path / DROPIN).read_text() == "[Network]\nDHCP=no\n"
    (tmp_path / FIXED).unlink()
    assert network(tmp_path) == "nameserver 192.168.1.1\n" + OPTIONS
    assert not (tmp_path / DROPIN).exists()


@pytest.mark.parametrize("lease", [None, "", "OPER_STATE=no-carrier\n", "DNS=\n"])
def test_before_any_lease_there_is_no_server(tmp_path: Path, lease: str | None) -> None:
    if lease is not None:
        write(tmp_path, LEASE, lease)
    assert network(tmp_path) == OPTIONS


def test_nothing_but_addresses_becomes_a_server(tmp_path: Path) -> None:
    """What DHCP says comes from a stranger: no word of it reaches the file unless it is an address."""
    write(tmp_path, LEASE, "DNS=192.168.1.1 evil.example $(id) ;id 1.1.1.1,2 -n 8.8.8.8 10.0.0.1 10.0.0.2\n")
    assert network(tmp_path) == "nameserver 192.168.1.1\nnameserver 8.8.8.8\nnameserver 10.0.0.1\n" + OPTIONS


def test_the_dropin_is_of_the_bridges_file(target: Path) -> None:
    """systemd.network(5): a drop-in lies in <file>.d, and names are what networkd matches by."""
    name = Path(DROPIN).parent.name.removesuffix(".d")
    assert "Name=br0" in (target / "etc/systemd/network" / name).read_text()
    assert (target / "etc/resolv.conf").readlink() == Path("/") / RESOLV


SHIM = """#!/bin/sh
echo "{name} $*" >> {log}
exit {code}
"""


class Requests:
    """vigie-request in a scratch /run, with programs that write down what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.log.touch()
        for name in ("run/vigie-guardian", "run/vigie/link/restart", "run/vigie-answers", "bin"):
            (folder / name).mkdir(parents=True)
        text = (PACKAGE / "vigie-request").read_text()
        self.script = folder / "vigie-request"
        self.script.write_text(text.replace("=/run/", f"={folder}/run/"))
        self.script.chmod(0o755)

    def run(self, *words: str, vigie: int = 0, systemctl: int = 0) -> int:
        for name, code in (("vigie", vigie), ("systemctl", systemctl)):
            shim = self.folder / "bin" / name
            shim.write_text(SHIM.format(name=name, log=self.log, code=code))
            shim.chmod(0o755)
        done = subprocess.run(
            [str(self.script), *words], capture_output=True, text=True, check=False, timeout=30,
            env={"PATH": f"{self.folder}/bin:/usr/bin:/bin"},
        )  # fmt: skip
        return done.returncode

    def answer(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / f"run/vigie-answers/{name}.json").read_text())
        return found

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    return Requests(tmp_path)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("selftest", ["vigie self-test"]),
        ("reset-config", ["vigie enrol reset --configuration --yes"]),
        (
            "protect",
            [
                "systemctl stop vigie-plain.service",
                "systemctl restart vigie-early.service",
                "systemctl --no-block restart vigie-filter.service",
            ],
        ),
        (
            "plain",
            [
                "systemctl stop vigie-filter.service vigie-early.service",
                "systemctl restart vigie-plain.service",
            ],
        ),
        ("pin-window", []),
    ],
)
def test_a_request_is_taken_away_done_and_answered(requests: Requests, name: str, asked: list[str]) -> None:
    request = requests.folder / "run/vigie-guardian" / name
    request.write_text('{"v":1,"at":1.0}')
    assert requests.run(name) == 0
    assert not request.exists(), "systemd would start it again for ever"
    assert requests.asked == asked
    answer = requests.answer(name)
    assert (answer["v"], answer["ok"]) == (1, True)
    if name == "pin-window":
        assert float(str(answer["until"])) - float(str(answer["at"])) == pytest.approx(600, abs=1.0)


def test_a_failure_is_answered(requests: Requests) -> None:
    assert requests.run("selftest", vigie=1) == 0
    assert requests.answer("selftest")["ok"] is False
    assert requests.run("protect", systemctl=1) == 0
    assert requests.answer("protect")["ok"] is False


@pytest.mark.parametrize("service", ["filter", "link", "update", "page"])
def test_a_restart_is_of_that_service(requests: Requests, service: str) -> None:
    request = requests.folder / "run/vigie/link/restart" / service
    request.touch()
    assert requests.run("restart", service) == 0
    assert not request.exists()
    assert requests.asked == [f"systemctl --no-block try-restart vigie-{service}.service"]


@pytest.mark.parametrize("words", [(), ("reboot",), ("restart", "ssh"), ("restart", "../x"), ("restart", "")])
def test_anything_else_is_refused(requests: Requests, words: tuple[str, ...]) -> None:
    assert requests.run(*words) == 2
    assert requests.asked == []
