"""The department's machine: one public address behind a cable to the internet, users of its own."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from lab import plan
from lab.netns import Namespace, World

USERS = ("console", "ingest", "authority", "signer", "publisher", "web", "broker")
FIRST_UID = 61001
"""numbers that no machine has given to anybody (Debian policy, 9.2.2: 60000-64999 are given out on request)"""


def build_department(world: World, internet: Namespace, offload: bool, feeds: Path) -> Namespace:
    """feeds: folder that the publisher reads."""
    dept = world.namespace("dept")
    world.cable(dept, "eth0", internet, "dept0")
    dept.address("eth0", f"{plan.DEPT4}/30", f"{plan.DEPT6}/64")
    internet.address("dept0", f"{plan.DEPT4_PEER}/30", f"{plan.DEPT6_PEER}/64")
    dept.address("lo", f"{plan.DEPARTMENT.v4}/32", f"{plan.DEPARTMENT.v6}/128")
    dept.route("default", "via", plan.DEPT4_PEER, "src", plan.DEPARTMENT.v4)
    dept.route("default", "via", plan.DEPT6_PEER, "src", plan.DEPARTMENT.v6)
    internet.route(f"{plan.DEPARTMENT.v4}/32", "via", plan.DEPT4)
    internet.route(f"{plan.DEPARTMENT.v6}/128", "via", plan.DEPT6)
    internet.sysctl("net/ipv4/ip_forward", 1)
    internet.sysctl("net/ipv6/conf/all/forwarding", 1)
    for end, link in ((dept, "eth0"), (internet, "dept0")):
        end.offload(link, offload)
    dept.resolv_conf = world.temp / "dept.resolv.conf"
    dept.resolv_conf.write_text(f"nameserver {plan.RESOLVER.v4}\n")
    dept.binds = {"/etc/passwd": world.temp / "dept.passwd", "/etc/group": world.temp / "dept.group"}
    for target, source in dept.binds.items():
        source.write_text(_with_users(Path(target)))
    # The Python of a developer may be in a home that only its owner enters.
    for needed in {Path(sys.base_prefix), world.root, feeds.resolve()}:
        _open_way(dept, needed, world.temp / "dept-homes")
    return dept


def _open_way(dept: Namespace, needed: Path, stand_ins: Path) -> None:
    """When a folder above `needed` is closed to others: one that holds nothing but `needed` takes its place."""
    closed = next((above for above in reversed(needed.parents) if not above.stat().st_mode & stat.S_IXOTH), None)
    if closed is None:
        return
    stand_in = stand_ins / closed.relative_to("/")
    place = stand_in / needed.relative_to(closed)
    place.mkdir(parents=True, exist_ok=True)
    # What is mounted inside the stand-in must be there before the stand-in takes its place.
    dept.binds = {str(place): needed, **dept.binds, str(closed): stand_in}


def _with_users(path: Path) -> str:
    """The machine's own file, and the users that the package makes (department/packaging/sysusers.d)."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("vigie-", "vigie:"))]
    for number, user in enumerate(USERS, FIRST_UID):
        if path.name == "passwd":
            lines.append(f"vigie-{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin")
        else:
            # nginx may connect to the authority's socket, whose group only a member can set
            lines.append(f"vigie-{user}:x:{number}:{'vigie-authority' if user == 'web' else ''}")
    if path.name == "group":
        lines.append(f"vigie:x:{FIRST_UID + len(USERS)}:vigie-console,vigie-ingest,vigie-publisher")
    return "\n".join(lines) + "\n"
