"""A department for tests: its configuration under one folder, and Django set up for it in this process.

Django knows one configuration per process, so every test of a run shares one department: `shared` makes it (SQLite),
and each test cleans up after itself with `rolled_back`.
"""

from __future__ import annotations

import atexit
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vigie_department import config as configuration
from vigie_department.config import Config
from vigie_department.console import setup


def write(root: Path, domain: str = "vigie.lab", **extra: dict[str, Any]) -> Config:
    """A configuration under `root`, with the secret of its sessions; extra: sections, and `top` for top-level keys."""
    path = configuration.file_of(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    sections = {"" if name == "top" else name: table for name, table in extra.items()}
    path.write_text(configuration.render(domain, root=root, extra=sections), encoding="utf-8")
    config = configuration.load(path)
    config.paths.data.mkdir(parents=True, exist_ok=True)
    secret = config.paths.data / setup.SECRET_FILE
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_urlsafe(64), encoding="ascii")
    return config


def shared() -> Config:
    """The department of this process, with its tables: made by the first who asks, gone with the process.

    A `conftest.py` calls it when it is imported, so that its tests may import models at the top.
    """
    from django.apps import apps

    if not apps.ready:
        root = Path(tempfile.mkdtemp(prefix="vigie-department-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        setup.start(write(root))
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        call_command("collectstatic", verbosity=0, interactive=False)
    from django.conf import settings

    config: Config = getattr(settings, "VIGIE")  # noqa: B009 - a setting of ours, which type checkers do not know
    return config


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    """Nothing that happens in it stays in the database."""
    from django.db import transaction

    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)
