"""A whole department of real processes, in the lab's namespace or on the loopback: init, start, stop, ask."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.daemons import BROKER_UID, give, listens, unprivileged
from lab.loopback import Loopback, Place, as_user, free_ports, tool
from lab.netns import Process, Result
from vigie_department import config as configuration
from vigie_department.broker.plan import broker_plan, web_plan
from vigie_department.config import Config
from vigie_provisioning.authority.client import Admin

SERVICES = ("authority", "signer", "console", "broker", "watch", "ingest", "web")
"""in the order in which they start"""
DOMAIN = "vigie.lab"
PASSWORD = "motdepasse-du-labo"  # noqa: S105 - of a department that lives for one run
KEYHOLDERS = tuple(f"phrase du labo numero {number}" for number in range(1, 8))
READY_S = 30.0


@dataclass
class Department:
    """`root` holds everything. users: each process under its own user, who must exist in the place (root only).

    ports: https, mqtt and the inner one; listen: the public address.
    """

    place: Place
    root: Path
    ports: tuple[int, int, int] = (443, 8883, 8443)
    listen: str = ""
    users: bool = False
    database: str = ""
    domain: str = DOMAIN
    sections: dict[str, dict[str, object]] = field(default_factory=dict)
    """of department.toml, beside what init writes"""
    processes: dict[str, Process] = field(default_factory=dict)
    config: Config = field(init=False)

    # -- making -----------------------------------------------------------------------------------

    def init(self) -> None:
        """`vigie-department init`, unattended."""
        self.root.mkdir(parents=True, exist_ok=True)
        secrets = {"passphrases": "\n".join(KEYHOLDERS), "password": PASSWORD}
        for name, text in secrets.items():
            (self.root / name).touch(mode=0o600)
            (self.root / name).write_text(text + "\n")
        https, mqtt, web = self.ports
        argv = ["init", self.domain, "--organisation", "Département du labo", "--admin", "admin"]
        argv += ["--https-port", str(https), "--mqtt-port", str(mqtt), "--web-port", str(web)]
        argv += ["--admin-password", str(self.root / "password"), "--passphrases", str(self.root / "passphrases")]
        argv += ["--users"] if self.users else ["--no-users"]
        argv += ["--listen", self.listen] if self.listen else []
        argv += ["--database", self.database] if self.database else []
        self.cli(*argv, timeout=120).require()
        if self.sections:
            path = configuration.file_of(self.root)
            path.write_text(merged(path.read_text(), self.sections))
        self.config = configuration.load(root=self.root)

    def cli(self, *argv: str, timeout: float = 60.0, user: str = "") -> Result:
        """`vigie-department --root ... ARGV`, as root or as one of the department's users."""
        words = [tool("vigie-department"), "--root", str(self.root), *argv]
        return self.place.run(*self._as(user), *words, timeout=timeout)

    def authority(self, *argv: str, timeout: float = 60.0) -> Result:
        """`vigie-authority --config ... ARGV`, as root."""
        words = [tool("vigie-authority"), "--config", str(self.config.paths.authority_config), *argv]
        return self.place.run(*words, timeout=timeout)

    def users_can_run(self) -> bool:
        """Whether others than root can run this Python: not when it was installed in root's home."""
        if os.geteuid() != 0:
            return False
        probe = ["setpriv", "--reuid=61001", "--regid=61001", "--clear-groups", "--inh-caps=-all", "--", "sh", "-c"]
        return self.place.run(*probe, f"{tool('vigie-department')} --help", timeout=60).code == 0

    # -- running ----------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """These services (all of them when none is named), ready when this returns."""
        for name in names or SERVICES:
            argv = [*self._as(self._user(name)), *self._argv(name)]
            if name == "broker" and not self.users:
                # mosquitto gives up root by itself, to a user who could not read its files
                uid, plan = unprivileged(BROKER_UID), broker_plan(self.config)
                give(uid, plan.folder, plan.key)
                argv = as_user(uid, argv)
            self.processes[name] = self.place.start(name, *argv)
            self._wait(name)

    def stop(self, name: str, *, kill: bool = False) -> None:
        process = self.processes.pop(name)
        if kill:
            # The group: workers of an nginx whose master is killed would serve on.
            os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        else:
            process.stop(20.0)

    def log(self, name: str, lines: int = 40) -> str:
        """What the service said last."""
        return self.processes[name].tail(lines)

    @property
    def admin(self) -> Admin:
        """The authority's admin socket."""
        return Admin(self.config.paths.authority_admin)

    def _user(self, name: str) -> str:
        return str(getattr(self.config.users, {"watch": "broker"}.get(name, name)))

    def _as(self, user: str) -> list[str]:
        if not self.users or not user:
            return []
        caps = f"--ambient-caps={'+net_bind_service' if user == self.config.users.web else '-all'}"
        inherit = f"--inh-caps={'+net_bind_service' if user == self.config.users.web else '-all'}"
        return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", inherit, caps, "--"]

    def _argv(self, name: str) -> list[str]:
        command = [tool("vigie-department"), "--root", str(self.root)]
        broker, web = broker_plan(self.config), web_plan(self.config)
        if name == "web":
            web.unwrap.unlink(missing_ok=True)
        # the workers of an nginx started by root would be nobody, who may not connect to the other services
        root = ["-g", "user root;"] if os.geteuid() == 0 and not self.users else []
        return {
            "authority": [tool("vigie-authority"), "--config", str(self.config.paths.authority_config), "serve"],
            "signer": [*command, "signer"],
            "console": [*command, "serve"],
            "ingest": [*command, "ingest"],
            "watch": [*command, "broker", "watch"],
            "broker": ["mosquitto", "-c", str(broker.configuration)],
            "web": ["nginx", "-p", str(web.work), "-c", str(web.configuration), "-e", "stderr", *root],
        }[name]

    def _wait(self, name: str) -> None:
        paths, process = self.config.paths, self.processes[name]
        sockets = {
            "authority": [paths.authority_socket, paths.authority_admin],
            "signer": [paths.signer_socket],
            "console": [paths.console_socket],
            "broker": [broker_plan(self.config).control],
            "web": [web_plan(self.config).unwrap],
        }.get(name, [])
        wait_until(lambda: all(listens(path) for path in sockets), process, f"listens on {sockets}")
        if name == "ingest":
            wait_until(lambda: "connected to the broker" in process.log.read_text(), process, "is connected")


def wait_until(holds: Callable[[], bool], process: Process, what: str, seconds: float = READY_S) -> None:
    """Until it holds; the evidence is what the process said."""
    deadline = time.monotonic() + seconds
    while not holds():
        if not process.running or time.monotonic() > deadline:
            raise AssertionError(f"{process.label}: not true within {seconds} s that it {what}:\n{process.tail(40)}")
        time.sleep(0.02)


def merged(text: str, sections: dict[str, dict[str, object]]) -> str:
    """A TOML file with more keys at the end of its sections (new sections when it has none of that name)."""
    lines = text.rstrip("\n").split("\n")
    for section, table in sections.items():
        pairs = [f"{key} = {_literal(value)}" for key, value in table.items()]
        head = f"[{section}]"
        if head in lines:
            place = lines.index(head) + 1
            lines[place:place] = pairs
        else:
            lines += ["", head, *pairs]
    return "\n".join(lines) + "\n"


def _literal(value: object) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else repr(value)
        if isinstance(value, int | float)
        else f'"{value}"'
    )


@contextmanager
def open_department(
    services: Sequence[str] = SERVICES, *, database: str = "", sections: dict[str, dict[str, object]] | None = None
) -> Iterator[Department]:
    """On the loopback, with free ports, as the user who runs this: for integration tests and benches.

    services: those that run when this yields.
    """
    with Loopback() as place:
        https, mqtt, web = free_ports(3)
        department = Department(
            place, place.temp / "d", (https, mqtt, web), listen="127.0.0.1", database=database, sections=sections or {}
        )
        department.init()
        department.start(*services)
        yield department
        for name in list(department.processes):
            department.stop(name)
