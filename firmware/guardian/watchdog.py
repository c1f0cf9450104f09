"""The hardware watchdog. This process is its only owner; it never closes it in order.

A close without the letter V leaves it running, which is what is wanted: if the guardian dies, systemd has the time-out
to start it again. So V is never written. Feeding is a write, which every driver takes for a ping.
"""

import libc

SETTIMEOUT = 0xC0045706
GETTIMEOUT = 0x80045707
CARDRESET = 0x20


class Watchdog:
    """Opened when it can be, tried again every `AGAIN_S` seconds otherwise."""

    AGAIN_S = 5

    def __init__(self, path, timeout_s, say):
        self.path, self.wanted_s, self.say = path, timeout_s, say
        self.file = None
        self.timeout_s = None  # what the driver runs with; None when it does not tell
        self.next = None
        self.told = ""

    def _open(self, now):
        self.next = now + self.AGAIN_S
        try:
            self.file = open(self.path, "wb", buffering=0)
        except OSError as error:
            self._tell(f"{self.path}: cannot be opened (error {error.errno}); trying again")
            return
        self.timeout_s = None
        if libc.HERE:
            try:
                self.timeout_s = libc.ioctl_int(self.file.fileno(), SETTIMEOUT, self.wanted_s)
            except OSError:
                try:
                    self.timeout_s = libc.ioctl_int(self.file.fileno(), GETTIMEOUT, 0)
                except OSError:
                    pass
        after = f"{self.timeout_s} s" if self.timeout_s else "not told by its driver"
        self._tell(f"{self.path}: open, time-out {after}")

    def _tell(self, text):
        if text != self.told:
            self.told = text
            self.say(text)

    def tend(self, feed, now):
        """Once a tick: opens it when it is not open, feeds it when told. Opening feeds too, so it is not opened while
        the box is meant to restart."""
        if self.file is None and feed and (self.next is None or now >= self.next):
            self._open(now)
        if self.file is None or not feed:
            return
        try:
            self.file.write(b"\x00")
        except OSError as error:
            self._tell(f"{self.path}: lost (error {error.errno}); opening it again")
            try:
                self.file.close()
            except OSError:
                pass
            self.file = None

    def is_open(self):
        """Whether somebody would notice if the guardian stopped."""
        return self.file is not None


def cardreset(sysfs, path, read_number):
    """Whether the driver says that the last reset was the watchdog's."""
    status = read_number("{}/class/watchdog/{}/bootstatus".format(sysfs, path.rsplit("/", 1)[-1]))
    return status is not None and bool(status & CARDRESET)
