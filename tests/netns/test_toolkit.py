"""The lab itself: it cleans up, it is closed, and its expectations bite."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import plan
from lab.box import make_plain_bridge
from lab.checks import inbound, toxic
from lab.leftovers import RUN_NETNS, clean_leftovers
from lab.netns import World, machine_links
from lab.office import Office
from lab.topology import Topology
from tests.netns.town import INDICATORS

LEFT_BEHIND = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from lab.netns import World
with World(python=sys.executable, root=Path(sys.argv[1])) as world:
    machine = world.namespace("victim")
    world.mount_bpffs()
    process = machine.start("sleeper", "sleep", "1000")
    while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\\n":
        time.sleep(0.01)
    print(world.temp, process.pid, flush=True)
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def plain(repo_root: Path) -> Iterator[Office]:
    """The town with a plain bridge in the box."""
    with Topology(INDICATORS) as lab:
        make_plain_bridge(lab)
        lab.wait_until_ready()
        yield Office(lab)


def test_namespaces_reach_each_other_and_say_so(repo_root: Path) -> None:
    with World(python=sys.executable, root=repo_root) as world:
        left, right = world.namespace("left"), world.namespace("right")
        world.cable(left, "eth0", right, "eth0")
        left.address("eth0", "10.0.0.1/24")
        right.address("eth0", "10.0.0.2/24")
        assert left.must_reach("10.0.0.2").outcome == "reached"
        assert left.must_refuse_fast("10.0.0.2", 81).outcome == "refused"
        left.must_not_reach("10.0.0.3", attempts=1, timeout=0.3)
        with pytest.raises(AssertionError, match=r"\[left\] ping 10\.0\.0\.3 -> silence"):
            left.must_reach("10.0.0.3", within=0.1, timeout=0.3)
        with pytest.raises(AssertionError, match=r"must not reach 10\.0\.0\.2"):
            left.must_not_reach("10.0.0.2")
        with pytest.raises(AssertionError, match=r"tcp 10\.0\.0\.4 port 81 -> silence"):
            left.must_refuse_fast("10.0.0.4", 81, within=0.3)
        world.assert_isolated()
        assert left.read_sysctl("net/bridge/bridge-nf-call-iptables") == "0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_everything_goes_at_a_signal(repo_root: Path, number: signal.Signals) -> None:
    child, temp, pid = victim(repo_root)
    child.send_signal(number)
    child.wait(10)
    assert not temp.exists()
    assert not list(RUN_NETNS.glob(f"vg-{child.pid}-*"))
    assert not Path(f"/proc/{pid}").exists()


def test_what_a_killed_run_left_is_cleaned_by_the_next(repo_root: Path) -> None:
    child, temp, pid = victim(repo_root)
    child.kill()
    child.wait(10)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists(), "processes end with their lab"
    assert temp.exists()
    removed = clean_leftovers()
    assert f"vg-{child.pid}-victim" in removed
    assert not temp.exists()
    assert not list(RUN_NETNS.glob(f"vg-{child.pid}-*"))


def victim(root: Path) -> tuple[subprocess.Popen[str], Path, int]:
    """Another process that holds a lab: itself, its folder, the process inside its namespace."""
    child = subprocess.Popen([sys.executable, "-c", LEFT_BEHIND, str(root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    temp, pid = child.stdout.readline().split()
    child.stdout.close()
    return child, Path(temp), int(pid)


def test_no_way_out(plain: Office) -> None:
    """No link of the lab in the machine's network, no route from the lab to it."""
    plain.lab.world.assert_isolated()
    assert plain["internet"].ip("route", "show", "default").out == ""
    assert plain["internet"].ip("-6", "route", "show", "default").out == ""
    own = subprocess.run(
        ["ip", "-4", "-o", "address", "show", "scope", "global"], capture_output=True, text=True, check=True
    )
    for line in own.stdout.splitlines():
        plain["pc"].must_not_reach(line.split()[3].split("/")[0], attempts=1, timeout=0.3)
    peers = {name for name, link in machine_links().items() if link.get("link_netnsid") is not None}
    assert not peers & {f"p-{name}" for name in plan.HOSTS}


@pytest.mark.parametrize(
    "check",
    [toxic.by_name, toxic.by_name_over_tcp, toxic.by_server_name, toxic.by_quic, toxic.by_address, inbound.scan_refused,
     inbound.spoofed_box],
)  # fmt: skip
def test_expectations_bite_without_a_filter(plain: Office, check: Callable[[Office], str]) -> None:
    """Over a plain bridge each of these must fail: else it would prove nothing of the box."""
    with pytest.raises(AssertionError):
        check(plain)
