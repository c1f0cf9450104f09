"""The button: an input device of the kernel that has the board's key. It may come, go, and come back."""

import struct

import files
import libc

AGAIN_S = 5
EV_KEY = 1
WORD = struct.calcsize("l") * 8
EVENT = struct.calcsize("llHHi")


def has_key(bitmap, key, word=WORD):
    """Whether the kernel's bitmap (words in hexadecimal, highest first) has this key."""
    words = (bitmap or "").split()
    place = len(words) - 1 - key // word
    try:
        return place >= 0 and bool(int(words[place], 16) >> (key % word) & 1)
    except ValueError:
        return False


class Keys:
    """Edges of one key. `poll` is a select.poll: the main loop wakes up for the key."""

    def __init__(self, sysfs, devices, key, poll, say):
        self.sysfs, self.key, self.poll, self.say, self.devices = sysfs, key, poll, say, devices
        self.fd = None
        self.next = None
        self.rest = b""

    def look(self, now):
        """Opens the device when it is not open; now and then."""
        if self.fd is not None or not libc.HERE or (self.next is not None and now < self.next):
            return
        self.next = now + AGAIN_S
        folder = self.sysfs + "/class/input"
        for name in files.names(folder) or ():
            if not name.startswith("event"):
                continue
            if not has_key(files.text(f"{folder}/{name}/device/capabilities/key"), self.key):
                continue
            try:
                self.fd = libc.open_(f"{self.devices}/{name}", libc.O_RDONLY | libc.O_NONBLOCK)
                self.poll.register(self.fd, 1)
                self.rest = b""
                self.say(f"button: {self.devices}/{name}")
                return
            except OSError:
                self.fd = None

    def edges(self):
        """[down or up, ...] since the last call; None when the device vanished."""
        if self.fd is None:
            return []
        found = []
        try:
            while len(found) < 64:
                data = libc.read(self.fd, EVENT * 16)
                if data is None:
                    return found
                if not data:
                    raise OSError(19)
                self.rest += data
                while len(self.rest) >= EVENT:
                    _s, _us, kind, code, value = struct.unpack("llHHi", self.rest[:EVENT])
                    self.rest = self.rest[EVENT:]
                    if kind == EV_KEY and code == self.key and value in (0, 1):  # 2 is auto-repeat
                        found.append(value == 1)
        except OSError:
            self.poll.unregister(self.fd)
            libc.close(self.fd)
            self.fd = None
            self.say("button: the device vanished")
            return None
        return found
