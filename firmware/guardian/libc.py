# ruff: noqa: BLE001 -- whatever goes wrong with ffi, the guardian goes on without it
"""What MicroPython has no word for: a few functions of the C library, through ffi.

An interpreter without ffi (Buildroot without libffi) still runs the guardian: `HERE` is False, the watchdog keeps its
driver's time-out, files are not flushed to the disk, each processor is not asked apart.
"""

import struct

try:
    import ffi
    import uctypes

    _C = ffi.open("libc.so.6")
    _open = _C.func("i", "open", "si")
    _read = _C.func("l", "read", "ipL")
    _write = _C.func("l", "write", "ipL")
    _close = _C.func("i", "close", "i")
    _fsync = _C.func("i", "fsync", "i")
    _pipe2 = _C.func("i", "pipe2", "pi")
    _fork = _C.func("i", "fork", "")
    _exit = _C.func("v", "_exit", "i")
    _waitpid = _C.func("i", "waitpid", "ipi")
    _ioctl = _C.func("i", "ioctl", "iLp")
    _affinity = _C.func("i", "sched_setaffinity", "iLp")
    _chown = _C.func("i", "chown", "sii")
    _chmod = _C.func("i", "chmod", "si")
    _errno = _C.func("p", "__errno_location", "")
    HERE = True
except Exception:
    HERE = False

O_RDONLY = 0
O_WRONLY = 1
O_NONBLOCK = 0x800
O_CLOEXEC = 0x80000
EAGAIN = 11
EINTR = 4
WNOHANG = 1
FIONBIO = 0x5421


def error():
    """errno of the last call that failed."""
    return struct.unpack("i", uctypes.bytes_at(_errno(), 4))[0]


def _checked(result):
    if result < 0:
        raise OSError(error())
    return result


def open_(path, flags):
    """A file descriptor. Raises OSError."""
    return _checked(_open(path, flags | O_CLOEXEC))


def read(fd, size):
    """At most `size` bytes, b"" at the end, None when there is nothing now. Raises OSError."""
    room = bytearray(size)
    got = _read(fd, room, size)
    if got < 0:
        if error() in (EAGAIN, EINTR):
            return None
        raise OSError(error())
    return bytes(room[:got])


def write(fd, data):
    """How many bytes went. Raises OSError."""
    return _checked(_write(fd, data, len(data)))


def close(fd):
    """Whatever comes of it."""
    _close(fd)


def fsync(fd):
    """Raises OSError."""
    _checked(_fsync(fd))


def pipe():
    """(reading end, writing end); reading does not wait. Raises OSError."""
    room = bytearray(8)
    _checked(_pipe2(room, O_CLOEXEC))
    ends = struct.unpack("ii", room)
    nonblocking(ends[0])
    return ends


def nonblocking(fd):
    """Reading and writing never wait from now on. Raises OSError."""
    _checked(_ioctl(fd, FIONBIO, struct.pack("i", 1)))


def ioctl_int(fd, request, value):
    """An ioctl that takes an int and leaves one. Raises OSError."""
    room = bytearray(struct.pack("i", value))
    _checked(_ioctl(fd, request, room))
    return struct.unpack("i", room)[0]


def fork():
    """0 in the child. Raises OSError."""
    return _checked(_fork())


def exit_now(code):
    """Ends this process without any tidying up."""
    _exit(code)


def ended(pid):
    """Whether the child has ended; never waits."""
    return _waitpid(pid, bytearray(4), WNOHANG) != 0


def run_on(numbers):
    """Runs this process on these processors from now on. Raises OSError."""
    mask = bytearray(128)
    for number in numbers:
        mask[number >> 3] |= 1 << (number & 7)
    _checked(_affinity(0, len(mask), mask))


def give(path, uid, gid, mode):
    """Owner, group and rights of a file. Raises OSError."""
    _checked(_chown(path, uid, gid))
    _checked(_chmod(path, mode))
