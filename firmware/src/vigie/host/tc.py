"""Programs at the tc hooks of a device: clsact, one filter of fixed place, replaced atomically."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from vigie.errors import LinkError
from vigie.host.netlink import HEADER, NLMSG_DONE, NLMSG_ERROR, REPLY_BYTES, converse, dialogue, error_of

PRIORITY: Final = 1
"""First: no other filter of the device lets a frame past this one."""
HANDLE: Final = 1
_ETH_P_ALL: Final = 0x0003
_PARENT_INGRESS: Final = 0xFFFFFFF2
_PARENT_EGRESS: Final = 0xFFFFFFF3
_NAME_MAX: Final = 255

# rtnetlink, include/uapi/linux/{netlink,rtnetlink,pkt_cls}.h
_TCMSG: Final = struct.Struct("=B3xiIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RTM_NEWTFILTER, _RTM_GETTFILTER = 44, 46
_NLM_F_DUMP_REQUEST: Final = 0x301
_TCA_KIND, _TCA_OPTIONS, _TCA_BPF_ID = 1, 2, 11


@dataclass(frozen=True, slots=True)
class Hook:
    """One side of one device. ifindex: kernel number of the device."""

    ifindex: int
    ingress: bool

    @property
    def parent(self) -> int:
        """The handle of this side of clsact."""
        return _PARENT_INGRESS if self.ingress else _PARENT_EGRESS

    def __str__(self) -> str:
        return f"{'ingress' if self.ingress else 'egress'} of device {self.ifindex}"


@dataclass(frozen=True, slots=True)
class Device:
    """What attaching needs of a device."""

    index: int
    mtu: int


class TcAttacher(Protocol):
    """What `DataPath` needs: the kernel's tc, or a record of it in a test."""

    def link(self, name: str) -> Device:
        """The device of this name."""

    def attach(self, hook: Hook, fd: int, name: str) -> None:
        """Have the program behind `fd` judge each frame at `hook`, in place of the one put there before."""

    def detach(self, hook: Hook) -> None:
        """Take it away; nothing happens when there is none."""

    def attached(self, hook: Hook) -> int | None:
        """Kernel number of the program at `hook`, None when there is none of ours."""


class Tc:
    """The kernel's tc, in the network namespace of the calling thread."""

    def link(self, name: str) -> Device:
        """The device of this name. LinkError when there is none."""

        def look(ip: Any) -> Device | None:
            for message in ip.get_links(ifname=name):
                return Device(int(message["index"]), int(message.get_attr("IFLA_MTU")))
            return None

        try:
            found = converse(f"device {name}", look)
        except LinkError as e:
            if e.errno != errno.ENODEV:
                raise
            found = None
        if found is None:
            raise LinkError(f"device {name} does not exist; `ip link` lists those that do", errno.ENODEV)
        return found

    def attach(self, hook: Hook, fd: int, name: str) -> None:
        """Put the program behind `fd` at `hook`. Packets see the old one or the new one, never none."""

        def put(ip: Any) -> None:
            if not _has_clsact(ip, hook.ifindex):
                ip.tc("add", "clsact", index=hook.ifindex)
            ip.tc(
                "replace-filter", "bpf", index=hook.ifindex, handle=HANDLE, parent=hook.parent, prio=PRIORITY,
                protocol=_ETH_P_ALL, fd=fd, name=name[:_NAME_MAX], direct_action=True,
            )  # fmt: skip

        converse(f"attaching {name} to {hook}", put)

    def detach(self, hook: Hook) -> None:
        """Take the program off `hook`."""

        def take(ip: Any) -> None:
            ip.tc(
                "del-filter", "bpf", index=hook.ifindex, handle=HANDLE, parent=hook.parent, prio=PRIORITY,
                protocol=_ETH_P_ALL,
            )  # fmt: skip

        if self.attached(hook) is not None:
            converse(f"detaching from {hook}", take)

    def attached(self, hook: Hook) -> int | None:
        """Kernel number of the program at `hook`."""
        try:
            return _program_id(hook)
        except OSError as e:
            raise LinkError(f"filters at {hook}: {e.strerror or e}", e.errno or 0) from e


def _has_clsact(ip: Any, ifindex: int) -> bool:
    return any(q.get_attr("TCA_KIND") == "clsact" for q in ip.get_qdiscs(index=ifindex))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each rtattr in `data`; stops at the first that does not fit."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _filters(hook: Hook) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    """(handle, priority, attributes) of each filter at `hook`.

    Asked by hand: pyroute2 knows the attributes of a bpf filter up to TCA_BPF_FLAGS, and the number comes later.
    """
    request = _TCMSG.pack(0, hook.ifindex, 0, hook.parent, 0)
    header = HEADER.pack(HEADER.size + len(request), _RTM_GETTFILTER, _NLM_F_DUMP_REQUEST, 1, 0)
    with dialogue() as sock:
        sock.send(header + request)
        for _ in range(1024):
            data = sock.recv(REPLY_BYTES)
            at = 0
            while at + HEADER.size <= len(data):
                length, kind, _, _, _ = HEADER.unpack_from(data, at)
                body = data[at + HEADER.size : at + length]
                if length < HEADER.size or kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = error_of(body)
                    if code in (0, errno.EINVAL, errno.ENOENT):  # no clsact: nothing hangs there
                        return
                    raise OSError(code, os.strerror(code))
                if kind == _RTM_NEWTFILTER and len(body) >= _TCMSG.size:
                    _, _, handle, _, info = _TCMSG.unpack_from(body)
                    yield handle, info >> 16, dict(_attributes(body[_TCMSG.size :]))
                at += (length + 3) & ~3


def _program_id(hook: Hook) -> int | None:
    for handle, priority, attributes in _filters(hook):
        if (handle, priority) == (HANDLE, PRIORITY) and attributes.get(_TCA_KIND, b"").rstrip(b"\0") == b"bpf":
            number = dict(_attributes(attributes.get(_TCA_OPTIONS, b""))).get(_TCA_BPF_ID)
            return int.from_bytes(number, sys.byteorder) if number else None
    return None
