"""Bridge, ports, routes and tc hooks, on veth pairs in a network namespace that the test makes.

lan ---- va [ br0 ] vb ---- wan
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.veth import bpffs, ip, new_namespace
from vigie.contract.codes import Reason
from vigie.errors import LinkError, UsageError
from vigie.filter import abi
from vigie.filter.datapath import DataPath
from vigie.host.monitor import Monitor, What
from vigie.host.net import BRIDGE_SETTINGS, Net
from vigie.host.tc import Hook, Tc

pytestmark = [pytest.mark.bpf, pytest.mark.netns]

REAL = Path(__file__).parents[2] / "firmware" / "bpf" / "build" / "filter.bpf.o"


@pytest.fixture
def net() -> Iterator[Net]:
    with new_namespace():
        yield Net()


def hear(name: str) -> socket.socket:
    """A socket that receives every frame of a device."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((name, 0))
    sock.settimeout(2)
    return sock


def crosses(frame: bytes) -> bool:
    """Whether a frame sent by `lan` arrives at `wan`; a second frame that always crosses marks the end."""
    end = bytes.fromhex("ffffffffffff02000000aaaa88b6") + b"end".ljust(46, b"\0")
    with hear("wan") as ear, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind(("lan", 0))
        mouth.send(frame)
        mouth.send(end)
        while True:
            got = ear.recv(2048)
            if got == frame:
                return True
            if got == end:
                return False


def test_bridge_has_the_settings_of_the_box(net: Net) -> None:
    bridge = net.ensure_bridge("br0", ["va", "vb"])
    assert (bridge.kind, bridge.up, bridge.mac) == ("bridge", True, net.link("va").mac)
    assert net.bridge_differences("br0") == {}
    assert {net.link(p).master for p in ("va", "vb")} == {bridge.index}
    assert Path("/proc/sys/net/ipv6/conf/va/disable_ipv6").read_text().strip() == "1"
    for name in ("iptables", "ip6tables", "arptables"):
        setting = Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}")
        assert not setting.exists() or setting.read_text().strip() == "0", name


def test_a_second_time_changes_nothing_and_repairs_what_drifted(net: Net) -> None:
    first = net.ensure_bridge("br0", ["va", "vb"])
    assert net.ensure_bridge("br0", ["va", "vb"]) == first
    ip("link", "set", "br0", "type", "bridge", "mcast_snooping", "1", "group_fwd_mask", "0")
    ip("link", "set", "vb", "nomaster")
    ip("link", "set", "br0", "down")
    assert net.bridge_differences("br0") == {
        key: BRIDGE_SETTINGS[key] for key in ("br_mcast_snooping", "br_group_fwd_mask")
    }
    again = net.ensure_bridge("br0", ["va", "vb"], mac=bytes.fromhex("02000000000b"))
    assert (again.index, again.up, again.mac.hex()) == (first.index, True, "02000000000b")
    assert net.bridge_differences("br0") == {} and net.link("vb").master == first.index


def test_what_cannot_be_is_said(net: Net) -> None:
    with pytest.raises(LinkError, match="absent does not exist"):
        net.ensure_bridge("br0", ["va", "absent"])
    with pytest.raises(UsageError, match="another device"):
        net.ensure_bridge("br0", ["va", "va"])
    with pytest.raises(LinkError, match="is no bridge"):
        net.ensure_bridge("lan", ["va", "vb"])
    net.ensure_bridge("br0", ["va"])
    with pytest.raises(LinkError, match="belongs to another"):
        net.ensure_bridge("br1", ["va", "vb"])
    with pytest.raises(LinkError, match="not a port"):
        net.set_port_state("vb", forwarding=False)
    net.remove_bridge("br0")
    net.remove_bridge("br0")
    assert net.link("va").master == 0


GROUPS = {
    "STP": "0180c2000000",
    "EAPOL": "0180c2000003",
    "LLDP": "0180c200000e",
    "IGMP": "01005e000016",
    "unknown unicast": "02000000beef",
}


@pytest.mark.parametrize("group", GROUPS)
def test_what_a_cable_carries_the_bridge_carries(net: Net, group: str) -> None:
    net.ensure_bridge("br0", ["va", "vb"])
    assert crosses(bytes.fromhex(GROUPS[group] + "02000000aaaa88b5") + group.encode().ljust(46, b"\0"))


def test_a_stopped_port_stays_stopped_until_opened(net: Net) -> None:
    net.ensure_bridge("br0", ["va", "vb"])
    frame = bytes.fromhex("ffffffffffff02000000aaaa88b5") + bytes(46)
    assert crosses(frame)
    net.set_port_state("va", forwarding=False)
    with hear("wan") as ear, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind(("lan", 0))
        ear.settimeout(0.2)
        mouth.send(frame)
        with pytest.raises(TimeoutError):
            while ear.recv(2048) != frame:
                pass
    net.set_port_state("va", forwarding=True)
    assert crosses(frame)


def test_addresses_routes_neighbours_and_fdb(net: Net) -> None:
    index = net.ensure_bridge("br0", ["va", "vb"]).index
    ip("addr", "add", "192.0.2.2/24", "dev", "br0")
    ip("-6", "addr", "add", "2001:db8::2/64", "dev", "br0", "nodad")
    ip("route", "add", "default", "via", "192.0.2.1", "metric", "20")
    ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "br0", "metric", "10")
    ip("neigh", "add", "192.0.2.1", "lladdr", "02:00:00:00:00:fe", "dev", "br0")
    ip("neigh", "add", "192.0.2.77", "dev", "br0", "nud", "failed")
    assert {str(a) for a in net.addresses(index)} >= {"192.0.2.2/24", "2001:db8::2/64"}
    routes = [(r.family, str(r.gateway), r.ifindex, r.metric) for r in net.default_routes()]
    assert routes == [(6, "fe80::1", index, 10), (4, "192.0.2.1", index, 20)]
    gateway = ipaddress.ip_address("192.0.2.1")
    assert net.neighbour_mac(index, gateway) == bytes.fromhex("0200000000fe")
    assert net.neighbour_mac(index, ipaddress.ip_address("192.0.2.77")) is None
    assert all(not n.address.is_multicast for n in net.neighbours(index))
    assert crosses(bytes.fromhex("ffffffffffff02000000aaaa88b5") + bytes(46))
    seen = {(e.mac.hex(), e.ifindex) for e in net.fdb("br0") if not e.local}
    assert ("02000000aaaa", net.link("va").index) in seen


def test_carrier_is_told(net: Net) -> None:
    net.ensure_bridge("br0", ["va", "vb"])
    assert net.link("va").carrier
    ip("link", "set", "lan", "down")
    assert not net.link("va").carrier


def test_changes_arrive_and_can_be_read_inside_the_loop(net: Net) -> None:
    index = net.ensure_bridge("br0", ["va", "vb"]).index

    async def watch() -> set[What]:
        seen: set[What] = set()
        async with Monitor() as changes:
            ip("addr", "add", "192.0.2.2/24", "dev", "br0")
            ip("neigh", "add", "192.0.2.1", "lladdr", "02:00:00:00:00:fe", "dev", "br0")
            ip("link", "set", "lan", "down")
            async for change in changes:
                if change.ifindex in (index, 0, net.link("va").index):  # Net works inside a running loop
                    seen.add(change.what)
                if seen >= {What.ADDRESS, What.ROUTE, What.NEIGHBOUR, What.LINK}:
                    return seen
        return seen

    assert asyncio.run(asyncio.wait_for(watch(), 10))


def test_hooks_are_taken_replaced_and_given_back(net: Net) -> None:
    assert REAL.is_file(), f"{REAL} is missing: make -C firmware/bpf"
    net.ensure_bridge("br0", ["va", "vb"])
    first, second = DataPath.open(REAL), DataPath.open(REAL)
    ports = ("va", "vb", "br0")
    assert not first.attached(*ports)
    first.attach(*ports)
    assert first.attached(*ports) and not second.attached(*ports)
    assert first.control["ifindex"].tolist() == [net.link("va").index, net.link("vb").index]
    second.attach(*ports)
    assert second.attached(*ports) and not first.attached(*ports)
    before = second.counters().get(Reason.NOT_IP, (0, 0))[0]
    assert crosses(bytes.fromhex("ffffffffffff02000000aaaa88b5") + bytes(46))
    assert second.counters()[Reason.NOT_IP][0] > before
    second.close()
    tc = Tc()
    hook = Hook(net.link("va").index, ingress=True)
    assert tc.attached(hook), "closing the daemon's end takes nothing off"
    first.detach(*ports)
    first.detach(*ports)
    assert tc.attached(hook) is None
    first.close()


def test_no_moment_without_a_program_while_replacing(net: Net) -> None:
    """Frames of a spoofed box MAC are dropped by every data path: none may cross during 40 replacements."""
    assert REAL.is_file(), f"{REAL} is missing: make -C firmware/bpf"
    net.ensure_bridge("br0", ["va", "vb"])
    pair = [DataPath.open(REAL), DataPath.open(REAL)]
    ports = ("va", "vb", "br0")
    for datapath in pair:
        datapath.settings.set_box_mac(bytes.fromhex("02000000b0b0"))
        datapath.attach(*ports)
    spoofed = bytes.fromhex("ffffffffffff02000000b0b0 88b6") + bytes(46)
    stop = threading.Event()
    sent = [0]

    def flood() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
            mouth.bind(("lan", 0))
            while not stop.is_set():
                mouth.send(spoofed)
                sent[0] += 1

    with hear("wan") as ear:
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for turn in range(40):
                pair[turn % 2].attach(*ports)
        finally:
            stop.set()
            thread.join()
        ear.settimeout(0.2)
        crossed = 0
        with pytest.raises(TimeoutError):
            while True:
                crossed += ear.recv(2048) == spoofed
    assert (crossed, sent[0] > 1000) == (0, True)
    for datapath in pair:
        datapath.close()


def test_python_takes_over_from_the_early_loader(net: Net, tmp_path: Path) -> None:
    early = REAL.with_name("vigie-early")
    assert early.is_file(), f"{early} is missing: make -C firmware/bpf"
    with bpffs(tmp_path / "bpf") as pins:
        done = subprocess.run(
            [str(early), "--ports", "va,vb", "--bridge", "br0", "--object", str(REAL), "--pin", str(pins)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr  # in force, without a base
        hooks = [Hook(net.link(name).index, ingress=name != "br0") for name in ("va", "vb", "br0")]
        before = [Tc().attached(hook) for hook in hooks]
        assert all(before), "the early loader's programs are where Python looks for them"
        assert net.bridge_differences("br0") == {}
        assert {p.name for p in (pins / f"v{abi.LAYOUT_VERSION}").iterdir()} == set(abi.MAPS)
        datapath = DataPath.open(REAL, pins)
        seed, ports = int(datapath.control["flow_seed"]), datapath.control["ifindex"].tolist()
        assert seed and ports == [hook.ifindex for hook in hooks[:2]]
        net.ensure_bridge("br0", ["va", "vb"])
        datapath.attach("va", "vb", "br0")
        after = [Tc().attached(hook) for hook in hooks]
        assert datapath.attached("va", "vb", "br0") and not set(before) & set(after)
        shown = subprocess.run(["tc", "filter", "show", "dev", "va", "ingress"], capture_output=True, text=True,
                               check=True, timeout=10).stdout  # fmt: skip
        assert shown.count(" handle 0x1 ") == 1, shown
        datapath.close()


def test_tc_says_what_is_missing(net: Net) -> None:
    with pytest.raises(LinkError, match="absent does not exist") as caught:
        Tc().link("absent")
    assert caught.value.errno == errno.ENODEV
    with pytest.raises(LinkError, match="attaching x to ingress of device 9999"):
        Tc().attach(Hook(9999, ingress=True), 0, "x")
