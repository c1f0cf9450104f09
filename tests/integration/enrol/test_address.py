"""The address on a real bridge, as a user with CAP_NET_ADMIN and nothing else; the page without any privilege.

office (169.254.7.7/16, then 192.168.1.9/24) -- br0 of the box -- router (192.168.1.1/24)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from lab.loopback import tool
from lab.netns import Namespace, World
from vigie.enrol.codes import Code
from vigie.enrol.look import look
from vigie.host import addressing
from vigie.host.address_service import METRIC, RESOLV, Service
from vigie.host.boxconfig import BoxConfig, Paths
from vigie.host.net import Net

pytestmark = pytest.mark.netns
ROOT = Path(__file__).resolve().parents[3]
WISH = {
    "v": 1,
    "mode": "fixed",
    "address": "192.168.1.20/24",
    "gateway": "192.168.1.1",
    "dns": ["192.168.1.1", "9.9.9.9"],
}
NOBODY = 65534


class Place:
    """The three machines and the box's folders."""

    def __init__(self, world: World) -> None:
        self.box, self.office, self.router = (world.namespace(name) for name in ("box", "office", "router"))
        world.cable(self.box, "lan", self.office, "eth0")
        world.cable(self.box, "wan", self.router, "eth0")
        self.box.bridge("br0", "lan", "wan")
        self.box.sysctl("net/ipv6/conf/br0/disable_ipv6", 1)
        root = world.temp / "vigie"
        self.paths = Paths(trust=root, identity=root, state=root / "state", run=root / "run")
        for path in (root, self.paths.state, self.paths.run):
            path.mkdir()
            path.chmod(0o777)
        self.config = BoxConfig("vigie.lab", paths=self.paths)

    def wish(self, value: object) -> None:
        path = addressing.request_path(self.paths)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))

    def addresses(self) -> set[str]:
        found = json.loads(self.box.ip("-j", "-4", "address", "show", "dev", "br0").out)
        return {f"{a['local']}/{a['prefixlen']}" for link in found for a in link.get("addr_info", [])}

    def routes(self) -> list[tuple[str, int]]:
        found = json.loads(self.box.ip("-j", "route", "show", "default").out)
        return [(r["gateway"], r.get("metric", 0)) for r in found]

    def report(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(addressing.report_path(self.paths).read_text())
        return found

    @contextmanager
    def service(self, turns: int = 1) -> Iterator[Service]:
        """A service that has turned so often."""
        with self.box.entered():
            made = Service(self.config, Net(), probe_s=0.1)
            for _turn in range(turns):
                made.turn()
            yield made

    def turn(self, turns: int = 1) -> None:
        with self.service(turns):
            pass


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """DHCP is not waited for."""
    monkeypatch.setattr(addressing, "FALLBACK_S", 0.0)


@pytest.fixture
def place() -> Iterator[Place]:
    with World(sys.executable, ROOT) as world:
        yield Place(world)


def test_without_dhcp_there_is_a_link_local_address_which_goes_with_a_better_one(
    place: Place, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.service() as service:
        (local,) = place.addresses()
        assert local == str(addressing.link_local(bytes.fromhex(place.box.mac("br0").replace(":", "")), 0))
        assert "scope link" in place.box.ip("-4", "address", "show", "dev", "br0").out
        assert look(place.config, Net()).code is Code.NO_ADDRESS  # type: ignore[union-attr]
        place.box.address("br0", "10.1.2.3/24")  # a lease
        service.turn()
        assert place.addresses() == {local, "10.1.2.3/24"}
        monkeypatch.setattr(addressing, "FAREWELL_S", 0.0)
        service.turn()
        assert place.addresses() == {"10.1.2.3/24"}


def test_a_link_local_address_that_is_taken_is_left_to_its_owner(place: Place, at_once: None) -> None:
    mac = bytes.fromhex(place.box.mac("br0").replace(":", ""))
    first, second = addressing.link_local(mac, 0), addressing.link_local(mac, 1)
    place.office.address("eth0", str(first))
    place.turn()
    assert place.addresses() == {str(second)}


def test_a_fixed_address_with_its_route_and_dns_comes_and_goes(place: Place) -> None:
    place.router.address("eth0", "192.168.1.1/24")
    place.wish(WISH)
    with place.service() as service:
        assert place.addresses() == {"192.168.1.20/24"} and place.routes() == [("192.168.1.1", METRIC)]
        assert (place.paths.run_address / RESOLV).read_text() == "nameserver 192.168.1.1\nnameserver 9.9.9.9\n"
        assert place.router.run("ping", "-c1", "-W2", "192.168.1.20").code == 0
        place.wish(WISH | {"address": "192.168.1.21/24"})
        service.turn()
        assert place.addresses() == {"192.168.1.21/24"} and place.routes() == [("192.168.1.1", METRIC)]
        place.box.ip("route", "del", "default")  # somebody else's doing
        service.turn()
        assert place.routes() == [("192.168.1.1", METRIC)]
        place.wish(addressing.DHCP)
        service.turn()
        assert "192.168.1.21/24" not in place.addresses() and place.routes() == []
        assert not (place.paths.run_address / RESOLV).exists()


def test_an_address_that_somebody_has_is_not_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.office.address("eth0", "192.168.1.20/24")
    place.wish(WISH)
    with place.service() as service:
        assert "192.168.1.20/24" not in place.addresses() and place.report()["problem"] == "conflict"
        place.office.ip("address", "del", "192.168.1.20/24", "dev", "eth0")
        service.turn()
        assert "192.168.1.20/24" not in place.addresses()  # not probed at each turn
        from vigie.host import address_service

        monkeypatch.setattr(address_service, "AGAIN_S", 0.0)
        service.turn()
        assert "192.168.1.20/24" in place.addresses() and place.report()["problem"] == ""


def test_what_a_killed_service_added_is_found_and_removed(place: Place) -> None:
    place.wish(WISH)
    place.turn()
    assert "192.168.1.20/24" in place.addresses()
    place.wish(addressing.DHCP)
    place.turn()  # another process
    assert "192.168.1.20/24" not in place.addresses() and place.routes() == []


def test_a_bridge_made_anew_gets_its_address_again(place: Place) -> None:
    place.wish(WISH)
    with place.service() as service:
        place.box.ip("link", "del", "br0")
        place.box.bridge("br0", "lan", "wan")
        service.turn()
        assert "192.168.1.20/24" in place.addresses() and place.routes() == [("192.168.1.1", METRIC)]


@pytest.mark.parametrize(
    "value", ["nonsense", {"mode": "fixed", "address": "8.8.8.8/0"}, WISH | {"gateway": "10.0.0.1"}]
)
def test_a_wish_that_cannot_be_changes_nothing(place: Place, at_once: None, value: object) -> None:
    place.wish(value)
    place.turn()
    assert all(IPv4Interface(a).ip.is_link_local for a in place.addresses())


BROWSE = """
import http.cookiejar, re, sys, urllib.error, urllib.parse, urllib.request
base = f"http://{sys.argv[1]}:8080"
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
body = opener.open(base + "/", timeout=5).read().decode()
if len(sys.argv) > 2:
    token = re.search(r'name="token" value="(\\w+)"', body)[1]
    form = {"mode": "fixed", "address": "192.168.1.20", "prefix": "24", "gateway": "192.168.1.1", "dns": "192.168.1.1"}
    data = urllib.parse.urlencode(form | {"token": token}).encode()
    request = urllib.request.Request(base + "/adresse", data, {"Origin": base})
    body = opener.open(request, timeout=5).read().decode()
print(body)
"""


def _eventually(holds: Callable[[], bool], what: Callable[[], object], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


@pytest.mark.slow
def test_from_link_local_to_a_fixed_address_with_a_browser(place: Place) -> None:
    config = place.paths.run / "box.yaml"
    paths = {name: str(getattr(place.paths, name)) for name in ("trust", "identity", "state", "run")}
    config.write_text(json.dumps({"domain": "vigie.lab", "paths": paths, "page": {"port": 8080}}))
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    admin = [*user, "--inh-caps=-all,+net_admin", "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin", "--"]
    none = [*user, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
    address = place.box.start("address", *admin, tool("vigie"), "address", "run", "--config", str(config))
    page = place.box.start("page", *none, tool("vigie"), "page", "run", "--config", str(config))
    place.office.address("eth0", "169.254.7.7/16")
    place.router.address("eth0", "192.168.1.1/24")
    _eventually(lambda: bool(place.addresses()), lambda: address.tail())
    (local,) = place.addresses()

    def browse(machine: Namespace, at: str, *more: str) -> tuple[int, str]:
        found = machine.run(sys.executable, "-c", BROWSE, at, *more)
        return found.code, found.out + found.err

    ip = local.partition("/")[0]
    code, body = browse(place.office, ip)
    assert code == 0 and "Fixer l'adresse" in body.replace("&#39;", "'"), (body, page.tail())
    code, body = browse(place.office, ip, "set")
    assert code == 0 and "noté" in body, (body, page.tail())
    _eventually(lambda: "192.168.1.20/24" in place.addresses(), lambda: (address.tail(), place.addresses()))
    place.office.address("eth0", "192.168.1.9/24")
    code, body = browse(place.office, "192.168.1.20")
    assert code == 0 and "192.168.1.20" in body, (body, page.tail())
    place.router.address("eth0", "203.0.113.1/24")
    place.box.ip("route", "add", "203.0.113.0/24", "via", "192.168.1.1")
    place.router.ip("route", "add", "192.168.1.20/32", "dev", "eth0", "src", "203.0.113.1")
    code, body = browse(place.router, "192.168.1.20")
    assert code != 0 and "403" in body, body  # from beyond the cable
    assert address.stop() == 0 and page.stop() == 0, (address.tail(), page.tail())
