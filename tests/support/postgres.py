"""A PostgreSQL server of a test's own: a temporary folder, a unix socket, no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def binaries() -> Path:
    """Folder of Debian's PostgreSQL, which is not in PATH: the newest version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "PostgreSQL is not installed; scripts/packages.txt names it"
    return found[-1]


class Postgres:
    """Started when made; `url` is for the department's configuration."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)
        # fsync stays on: a commit that a power cut may lose is no commit, and the tests measure real ones
        self._run([str(binaries() / "initdb"), "-D", str(self._data), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
        self.start()

    def database(self, name: str, template: str = "template0") -> str:
        """A new database, or a fresh copy of `template`; returns its URL for the department's configuration."""
        self.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", database="postgres")
        self.query(f"CREATE DATABASE {name} TEMPLATE {template}", database="postgres")
        return f"postgresql:///{name}?host={self._folder}&user={self._user}"

    def _as_user(self, argv: Sequence[str]) -> list[str]:
        if os.geteuid() != 0:
            return list(argv)
        return ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--init-groups", "--", *argv]

    def _run(self, argv: Sequence[str]) -> None:
        done = subprocess.run(self._as_user(argv), capture_output=True, text=True, check=False, cwd=self._folder)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Running and answering."""
        log = (self._folder / "log").open("ab")
        argv = [str(binaries() / "postgres"), "-D", str(self._data), "-k", str(self._folder), "-c", "listen_addresses="]
        guarded = ["setpriv", "--pdeathsig", "KILL", "--", *self._as_user(argv)]
        self._process = subprocess.Popen(guarded, stdout=log, stderr=log, cwd=self._folder, start_new_session=True)
        log.close()
        deadline = time.monotonic() + 60
        while True:
            try:
                self.query("SELECT 1", database="postgres")
                return
            except Exception as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    text = (self._folder / "log").read_text(errors="replace")[-2000:]
                    raise AssertionError(f"PostgreSQL does not answer: {error}\n{text}") from error
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT ends every session at once; SIGKILL is a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def query(self, text: str, *parameters: Any, database: str = "vigie") -> list[tuple[Any, ...]]:
        """Rows, or nothing."""
        import psycopg

        with psycopg.connect(dbname=database, host=str(self._folder), user=self._user, autocommit=True) as connection:
            cursor = connection.execute(text, parameters)
            return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that is gone afterwards."""
    # a short path: that of a unix socket has 107 bytes
    with tempfile.TemporaryDirectory(prefix="vigie-pg-") as name:
        folder = Path(name)
        server = Postgres(folder)
        try:
            yield server
        finally:
            server.stop()
