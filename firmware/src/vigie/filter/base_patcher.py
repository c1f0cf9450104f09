"""The base file after a delta, in a process of its own: unpacking and packing a base takes seconds and memory.

`python -m vigie.filter.base_patcher BASE OUT FD...` applies the delta files behind the descriptors, one after another,
writes OUT and prints one JSON line: {"content": the content id reached}, or {"error": ...}. It runs at the lowest
priority: the base is in force already, this is only for the next start.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from vigie.errors import VigieError
from vigie.filter.base.basefile import in_memory, open_base, write_atomically
from vigie.filter.base.deltaformat import MAX_FILE, unpack_delta
from vigie.filter.base.filedelta import patch_file

NICE = 19


def patch(path: Path, out: Path, fds: list[int]) -> str:
    """Content id of what was written. Raises BaseError; OSError when a descriptor cannot be read."""
    with open_base(path) as file:
        source, content, data = file, file.content(), b""
        for fd in fds:
            delta = unpack_delta(os.pread(fd, MAX_FILE + 1, 0), "delta")
            data = patch_file(source, delta)
            source, content = in_memory(data), delta.to_content
    write_atomically(out, data)
    return content


def main(argv: list[str]) -> int:
    """Prints what was reached, or the error."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    try:
        print(json.dumps({"content": patch(Path(argv[1]), Path(argv[2]), [int(fd) for fd in argv[3:]])}))
    except (VigieError, OSError, MemoryError, ValueError) as e:
        print(json.dumps({"error": str(e) or type(e).__name__}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
