"""Files that mosquitto reads at a reload: whole, and readable by it, at every instant."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from vigie_department.broker.errors import BrokerError
from vigie_department.signer.files import sync_folder


def replace_private(path: Path, data: bytes) -> None:
    """`path` holds `data` after this or is as before; mode 0600, owner that of the folder, whoever runs this.

    Mosquitto that reloads while it may not read its access list goes on without one, which allows everything: a file
    that belongs to root for an instant is already too much.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        folder = path.parent.stat()
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if (folder.st_uid, folder.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BrokerError(f"{path}: cannot be written ({error.strerror}); what was there stays in force") from error
