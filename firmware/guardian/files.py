"""Small files, read with a limit and replaced whole. What cannot be read is None, never an exception."""

import json
import os

import libc

LIMIT = 8192


def text(path, limit=LIMIT):
    """The file's text, stripped; None when it cannot be read, is no text or is larger than `limit` bytes."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
        return None if data is None or len(data) > limit else data.decode().strip()
    except (OSError, ValueError):  # a broken encoding is a ValueError
        return None


def raw(path, limit=64):
    """The file's first bytes, or None."""
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError:
        return None


def number(path):
    """The whole number that the file holds, or None."""
    found = text(path, 64)
    try:
        return None if found is None else int(found)
    except ValueError:
        return None


def value(path, limit=LIMIT):
    """The JSON object that the file holds, or None. MicroPython's parser takes a file that was cut short for a whole
    one, so its ends are looked at first."""
    found = text(path, limit)
    if found is None or found[:1] != "{" or found[-1:] != "}":
        return None
    try:
        return json.loads(found)
    except ValueError:
        return None


def names(path):
    """What the folder holds, sorted; None when it cannot be read."""
    try:
        return sorted(entry[0] for entry in os.ilistdir(path) if entry[0] not in (".", ".."))
    except OSError:
        return None


def exists(path):
    """Whether there is anything of that name."""
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def remove(path):
    """The file is gone afterwards. Raises OSError when it cannot be removed."""
    try:
        os.unlink(path)
    except OSError:
        if exists(path):
            raise


def folder(path):
    """The folder is there afterwards, when it can be."""
    try:
        os.mkdir(path)
    except OSError:
        pass


def put(path, content, durable=False):
    """Replaces the file by one rename. durable: on the disk when this returns. Raises OSError."""
    beside = path + ".new"
    with open(beside, "wb") as file:
        file.write(content.encode())
        if durable and libc.HERE:
            libc.fsync(file.fileno())
    os.rename(beside, path)
    if durable and libc.HERE:
        fd = libc.open_(path.rsplit("/", 1)[0] or "/", libc.O_RDONLY)
        try:
            libc.fsync(fd)
        finally:
            libc.close(fd)


def write_line(path, content):
    """Writes to a file of the kernel (sysfs). Raises OSError."""
    with open(path, "wb") as file:
        file.write(content.encode())
