"""Whether two base files hold the same, whatever their version: what lets one operator revert without a wave.

A base file begins with magic, format and size of a JSON header that holds the digest of every section. Two files with
the same header but for `serial` and `created` list the same indicators with the same actions. Nothing else of the
format is read here.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any, Final

from vigie_department.signer.errors import RuleError

_PREFIX: Final = struct.Struct("<8sHHI")
_MAGIC: Final = b"\x89VGB\r\n\x1a\n"
_MAX_HEADER: Final = 1 << 20
_CHUNK: Final = 1 << 20
_FREE: Final = ("serial", "created")


def check_same_content(old: Path, old_sha256: str, new: Path, new_sha256: str) -> None:
    """RuleError unless both files are what their digest says and hold the same base."""
    if _header(old, old_sha256) != _header(new, new_sha256):
        raise RuleError(f"{new.name} does not hold what {old.name} holds, so it is not a revert to it")


def _header(path: Path, sha256: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            # what is compared are the bytes that are digested: the file belongs to another user, who may change it
            prefix = file.read(_PREFIX.size)
            magic, _format, _flags, size = _PREFIX.unpack(prefix)
            if magic != _MAGIC or size > _MAX_HEADER:
                raise ValueError("not a base file")
            text = file.read(size)
            digest = hashlib.sha256(prefix + text)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise ValueError("its digest is another one")
        return {key: value for key, value in json.loads(text).items() if key not in _FREE}
    except (OSError, ValueError, struct.error, AttributeError, RecursionError) as e:
        raise RuleError(f"{path}: cannot be compared ({e})") from e
