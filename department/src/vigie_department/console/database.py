"""From the configuration's database URL to Django's settings.

`sqlite:///absolute/path` or `postgresql://user:password@host:port/name?…` (libpq's own rules, sockets included).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vigie_department.config import Config
from vigie_department.errors import ConfigError

# WAL lets the console read while the ingest writes; FULL makes a commit survive a power cut, which the boxes rely on:
# they delete what the department says it has.
_SQLITE_START = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON"


def settings(config: Config) -> dict[str, Any]:
    """Django's DATABASES["default"]."""
    if config.database.startswith("sqlite:///"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(sqlite_path(config)),
            # IMMEDIATE: a transaction that reads then writes waits for its turn instead of failing when it upgrades
            "OPTIONS": {"init_command": _SQLITE_START, "transaction_mode": "IMMEDIATE", "timeout": 20},
        }
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts: dict[str, Any] = dict(conninfo_to_dict(config.database))
    except psycopg.Error as error:
        raise ConfigError(config.path, "database", f"not a PostgreSQL URL: {error}") from error
    result = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "vigie"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": str(parts.pop("port", "")),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }
    result["OPTIONS"] = {"connect_timeout": 5, **parts}
    return result


def sqlite_path(config: Config) -> Path | None:
    """The file of a SQLite database, or None with PostgreSQL."""
    prefix = "sqlite://"
    return Path(config.database.removeprefix(prefix)) if config.database.startswith(prefix + "/") else None
