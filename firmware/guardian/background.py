# ruff: noqa: BLE001 -- the child must end, whatever happens in it
"""What touches the disk happens in a child: a disk that hangs must not keep the watchdog from being fed.

One child at a time. A child that waits for the disk cannot be killed, only left alone; while it is there, `slow` says
so and nothing new is begun.
"""

import json

import libc

LIMIT = 16384
HIGHEST_FD = 64


class Background:
    """`begin(work)` runs `work()` (which returns something that JSON knows) in a child; `poll` has its answer later."""

    def __init__(self):
        self.pid = None
        self.fd = None
        self.began = 0
        self.data = b""

    def busy(self):
        """Whether a child is under way."""
        return self.pid is not None

    def slow(self, now, limit_s):
        """Whether the child has been under way for longer than `limit_s`."""
        return self.pid is not None and now - self.began > limit_s

    def begin(self, work, now):
        """Starts it; False when one is under way or no process can be had. Without ffi it is done here and now."""
        if self.pid is not None:
            return False
        if not libc.HERE:
            self.pid, self.fd, self.began, self.data = 0, None, now, _answer(work)
            return True
        try:
            reading, writing = libc.pipe()
        except OSError:
            return False
        try:
            pid = libc.fork()
        except OSError:
            libc.close(reading)
            libc.close(writing)
            return False
        if pid == 0:
            _child(work, writing)
        libc.close(writing)
        self.pid, self.fd, self.began, self.data = pid, reading, now, b""
        return True

    def poll(self):
        """(True, answer) once it has ended, else (False, None). The answer is None when the child failed."""
        if self.pid is None:
            return False, None
        if self.fd is not None:
            try:
                got = libc.read(self.fd, 2048)
                while got and len(self.data) < LIMIT:
                    self.data += got
                    got = libc.read(self.fd, 2048)
            except OSError:
                got = b""
            if got != b"":
                return False, None
            libc.close(self.fd)
            self.fd = None
        if self.pid and not libc.ended(self.pid):
            return False, None
        self.pid = None
        try:
            return True, json.loads(self.data.decode())
        except ValueError:
            return True, None


def _answer(work):
    try:
        return json.dumps(work()).encode()
    except Exception:
        return b""


def _child(work, writing):
    """Never returns. The watchdog is closed first: held open here, the next guardian could not open it."""
    try:
        for fd in range(3, HIGHEST_FD):
            if fd != writing:
                libc.close(fd)
        data = _answer(work)
        while data:
            data = data[libc.write(writing, data) :]
    except Exception:
        libc.exit_now(1)
    libc.exit_now(0)
