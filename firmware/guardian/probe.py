"""Evidence that the kernel moves frames: one of our own goes in at one end and must come out at the other.

Way, first choice: the private bridge (netlink.py): transmit queue, veth, receive softirq, bridge, veth, softirq, packet
socket. Where that path cannot be had: `lo`, transmit and receive softirq only. Where neither can: no evidence.
"""

import os
import socket
import struct

import libc
import netlink
from processors import online

AF_PACKET = 17
SOCK_RAW = 3
EINVAL = 22
ETHERTYPE = 0x88B5  # IEEE 802, for local experiments
MAGIC = b"vigie guardian"
NOT_THERE = (1, 6, 13, 19, 22, 97, 99, 100)  # EPERM ENXIO EACCES ENODEV EINVAL EAFNOSUPPORT EADDRNOTAVAIL ENETDOWN


class End:
    """A packet socket on one interface."""

    def __init__(self, name, index):
        self.name, self.index = name, index
        self.socket = socket.socket(AF_PACKET, SOCK_RAW, _network(ETHERTYPE))
        try:
            self.socket.setblocking(False)
            self.socket.bind(struct.pack("HHiHBB8s", AF_PACKET, _network(ETHERTYPE), index, 0, 0, 0, b""))
        except OSError:
            self.socket.close()
            raise

    def received(self):
        """One frame, or None when there is none. Raises OSError."""
        try:
            return self.socket.recv(128)
        except OSError as error:
            if error.errno in (libc.EAGAIN, libc.EINTR):
                return None
            raise


def _network(number):
    return struct.unpack("H", struct.pack(">H", number))[0]


class Probe:
    """`ask` once a tick. read(path below sysfs) gives text or None; frames is an observe.Frames."""

    def __init__(self, read, frames, say):
        self.read, self.frames, self.say = read, frames, say
        self.ends = ()
        self.evidence = "none"
        self.nonce = os.urandom(8)
        self.sequence = 0
        self.waiting = {}  # sequence -> processor
        self.turn = 0
        self.told = ""

    def ask(self, now):
        """Takes what came back, sends a frame on every processor (eight of many), takes again."""
        self._way()
        if not self.ends:
            self.frames.forgive(now)
            return
        processors = online(self.read("devices/system/cpu/online"))
        self.frames.processors(processors, now)
        try:
            self._collect(now)
            count = min(len(processors), max(8, len(processors) // 4))
            sent = 0
            for step in range(count):
                sent += self._send(processors[(self.turn + step) % len(processors)])
                self._collect(now)
            if not sent:
                self._send(None)
                self._collect(now)
            self.turn = (self.turn + count) % len(processors)
        except OSError as error:
            if error.errno in NOT_THERE:
                self._drop()  # the path was taken away: nothing is known of the kernel
            # anything else, such as no memory for a frame, is a frame that did not move
        if libc.HERE and len(processors) > 1:
            try:
                libc.run_on(processors)
            except OSError:
                pass

    def _send(self, processor):
        """1, or 0 when that processor is not ours to use. None: on whichever this process runs. Raises OSError."""
        if libc.HERE and processor is not None:
            try:
                libc.run_on((processor,))
            except OSError as error:
                if error.errno == EINVAL:
                    self.frames.last.pop(processor, None)
                    return 0
        self.sequence += 1
        self.waiting[self.sequence] = processor
        if len(self.waiting) > 256:
            for old in [number for number in self.waiting if number < self.sequence - 128]:
                del self.waiting[old]
        to, source = (1, 0) if self.sequence % 2 else (0, 1)
        if len(self.ends) == 1:
            target, origin, sender = bytes(6), bytes(6), self.ends[0]
        else:
            target, origin, sender = netlink.MACS[to], netlink.MACS[source], self.ends[source]
        frame = target + origin + struct.pack(">H", ETHERTYPE) + MAGIC + self.nonce + struct.pack(">I", self.sequence)
        sender.socket.send(frame + bytes(60 - len(frame)))
        return 1

    def _collect(self, now):
        for end in self.ends:
            for _ in range(64):
                frame = end.received()
                if frame is None:
                    break
                if frame[14:36] != MAGIC + self.nonce:
                    continue
                number = struct.unpack(">I", frame[36:40])[0]
                if number in self.waiting:
                    self.frames.moved(self.waiting.pop(number), now)

    def _way(self):
        """Keeps the sockets on the best way there is."""
        wanted = self._whole() or self._lo()
        have = tuple((end.name, end.index) for end in self.ends)
        if have == wanted:
            return
        self._drop()
        try:
            self.ends = tuple(End(name, index) for name, index in wanted)
        except OSError as error:
            self._tell(f"no packet socket (error {error.errno}): the watchdog is fed without evidence")
            return
        self.evidence = "bridge" if len(wanted) == 2 else "lo" if wanted else "none"
        self._tell(
            "own frames go through " + {"bridge": "the private bridge", "lo": "lo", "none": "nothing"}[self.evidence]
        )

    def _whole(self):
        """The ends of the private bridge, when each part is there, up, and joined: a frame lost on a path that somebody
        took apart says nothing about the kernel."""
        indexes = []
        for name in (netlink.BRIDGE,) + netlink.PORTS + netlink.ENDS:
            flags = self.read(f"class/net/{name}/flags")
            if flags is None or not int(flags, 16) & netlink.IFF_UP:
                return ()
        for port in netlink.PORTS:
            if self.read(f"class/net/{netlink.BRIDGE}/brif/{port}/port_no") is None:
                return ()
        for name in netlink.ENDS:
            index = self.read(f"class/net/{name}/ifindex")
            if index is None:
                return ()
            indexes.append((name, int(index)))
        return tuple(indexes)

    def _lo(self):
        flags, index = self.read("class/net/lo/flags"), self.read("class/net/lo/ifindex")
        return (("lo", int(index)),) if flags and index and int(flags, 16) & netlink.IFF_UP else ()

    def _drop(self):
        for end in self.ends:
            try:
                end.socket.close()
            except OSError:
                pass
        self.ends, self.evidence, self.waiting = (), "none", {}

    def _tell(self, text):
        if text != self.told:
            self.told = text
            self.say(text)
