"""The factory's port test over a real cable: a veth pair in a namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from tests.support.simboard import ROOT

pytestmark = pytest.mark.netns


def inside(*setup: str, code: str) -> dict[str, int]:
    """What a piece of code prints as JSON, in a new namespace after some `ip` commands."""
    commands = "\n".join(f"ip {line}" for line in setup)
    script = f"set -e\n{commands}\nexec {sys.executable} -c '{textwrap.dedent(code)}'"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


CABLE = ("link add p0 type veth peer name p1", "link set p0 up", "link set p1 up")
COUNT = """
    import json
    from vigie.factory.frames import exchange
    print(json.dumps({"out": exchange("p0", "p1", 200), "back": exchange("p1", "p0", 200)}))
"""
COUNT_OUT = """
    import json
    from vigie.factory.frames import exchange
    print(json.dumps({"out": exchange("p0", "p1", 200)}))
"""


def test_frames_go_round() -> None:
    assert inside(*CABLE, code=COUNT) == {"out": 200, "back": 200}


def test_also_while_both_ports_are_in_a_bridge_that_is_down() -> None:
    bridge = ("link add br0 type bridge", "link set p0 master br0", "link set p1 master br0", "link set br0 up")
    code = """
        import json
        from vigie.factory.frames import exchange, set_up
        set_up("br0", False)
        out = exchange("p0", "p1", 200)
        set_up("br0", True)
        print(json.dumps({"out": out}))
    """
    assert inside(*CABLE, *bridge, code=code) == {"out": 200}


def test_a_cable_that_loses() -> None:
    """Every frame of more than 1000 bytes is too large for the other end: two in five."""
    narrow = (*CABLE, "link set p1 mtu 900")
    assert inside(*narrow, code=COUNT_OUT) == {"out": 120}


def test_a_port_that_is_not_there() -> None:
    code = """
        import json
        from vigie.factory.errors import FactoryError
        from vigie.factory.frames import exchange
        try:
            exchange("p0", "p9", 10)
        except FactoryError as e:
            print(json.dumps({"refused": "p0 -> p9" in str(e)}))
    """
    assert inside(*CABLE, code=code) == {"refused": True}
