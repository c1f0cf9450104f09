"""The live view: throughput, connections, what is blocked and why. Keys act on the lab."""

from __future__ import annotations

import contextlib
import os
import select
import sqlite3
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lab.central import Central
from lab.office import Office
from lab.traffic import OfficeDay
from vigie.cli.watch import render as render_event
from vigie.errors import VigieError
from vigie.filter import client

REFRESH_S = 0.5
HISTORY = 60
BARS = " ▁▂▃▄▅▆▇█"
KEYS = (
    ("n", "clic sur un nom toxique"),
    ("s", "le même sans DNS (SNI)"),
    ("a", "caméra vers une adresse toxique"),
    ("b", "balayage depuis internet"),
    ("c", "intervertir les câbles"),
    ("k", "tuer le programme (kill -9)"),
    ("r", "le relancer"),
    ("q", "quitter"),
)


def spark(values: list[float]) -> str:
    top = max([*values, 1e-9])
    return "".join(BARS[min(8, int(value / top * 8.999))] for value in values)


def number(value: int) -> str:
    """1 234 567, with narrow no-break spaces."""
    return f"{value:,}".replace(",", "\u202f")


def entering(office: Office) -> str:
    """How to look around by hand."""
    namespaces = office.lab.world.namespaces
    first = namespaces["pc"]
    lines = ["Entrer dans une machine :", f"  nsenter --net={first.path} bash", "  machines : " + ", ".join(namespaces)]
    if office.product is not None:
        lines.append(
            f"Interroger le boîtier :\n  {office.product.vigie} --socket {office.product.socket} filter status"
        )
    return "\n".join(lines)


def department_lines(central: Central, box: str) -> list[str]:
    """What the department's database says of the box: its state, and the last alerts."""
    try:
        states = central.rows("SELECT * FROM console_boxstatus WHERE box_id = ?", box)
        alerts = central.rows(
            "SELECT rule, indicator, count, sent FROM console_alert WHERE box_id = ? ORDER BY seq DESC LIMIT 4", box
        )
    except sqlite3.Error as error:
        return [f"base de données : {error}"]
    if not states:
        return [f"{box} : pas encore vu"]
    state = states[0]
    online = "[green]en ligne[/]" if state["online"] else "[red]hors ligne[/]"
    lines = [f"{box} : {online}   base {state['base_version']}   isolement {state['isolation']}"]
    lines += [f"{row['rule']}  {escape(row['indicator'] or '-')}  x{number(row['count'])}" for row in alerts]
    return lines


class View:
    """Collects in threads, draws in the main one."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._stop = threading.Event()
        self._rates: dict[str, deque[float]] = {port: deque([0.0] * HISTORY, HISTORY) for port in ("lan0", "wan0")}
        self._packets = {"lan0": 0.0, "wan0": 0.0}
        self._events: deque[str] = deque(maxlen=14)
        self._status: dict[str, Any] = {}
        self._department: list[str] = []
        self._last: tuple[float, dict[str, tuple[int, int]]] = (time.monotonic(), self._counters())
        self.day = OfficeDay(office)
        self.note = ""

    # -- collecting -----------------------------------------------------------------------------

    def _counters(self) -> dict[str, tuple[int, int]]:
        links = {str(link["ifname"]): link["stats64"]["rx"] for link in self._office["box"].show_links()}
        return {port: (int(links[port]["bytes"]), int(links[port]["packets"])) for port in ("lan0", "wan0")}

    def sample(self) -> None:
        now, counters = time.monotonic(), self._counters()
        before, old = self._last
        for port, (octets, packets) in counters.items():
            self._rates[port].append((octets - old[port][0]) * 8 / (now - before) / 1e6)
            self._packets[port] = (packets - old[port][1]) / (now - before)
        self._last = (now, counters)
        if self._office.product is not None:
            try:
                self._status = client.call(self._office.product.socket, "status")
            except VigieError:
                self._status = {}
        if self._office.central is not None and self._office.member is not None:
            self._department = department_lines(self._office.central, self._office.member.box)

    def follow(self) -> None:
        """What `vigie watch` says, again after each restart of the daemon."""
        product = self._office.product
        while product is not None and not self._stop.wait(0.5):
            with contextlib.suppress(VigieError, OSError):
                for item in client.stream(product.socket, "watch", device=""):
                    self._events.appendleft(render_event(item))

    # -- drawing --------------------------------------------------------------------------------

    def _throughput(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for right in (False, True, True, False):
            table.add_column(justify="right" if right else "left", no_wrap=True)
        roles = {port["name"]: port["role"] for port in self._status.get("ports", [])}
        for port, rates in self._rates.items():
            label = {"lan": "bureau", "wan": "internet"}.get(roles.get(port, ""), "rôle inconnu")
            table.add_row(
                f"[b]{port}[/] [dim]{label}[/]",
                f"{rates[-1]:.1f} Mbit/s",
                f"{self._packets[port]:.0f} paq./s",
                Text(spark(list(rates)), style="cyan"),
            )
        return Panel(table, title="Débit")

    def _state(self) -> RenderableType:
        if self._office.product is None:
            return Panel("pont simple, sans filtrage", title="Boîtier")
        if not self._status:
            text = "[bold red]le programme est arrêté : le noyau continue de filtrer[/]"
            return Panel(text, title="Boîtier")
        status = self._status
        base, counts = status["base"] or {}, status["counters"]
        listed = [number(base.get(key, 0)) for key in ("v4", "v6", "names")]
        seen = counts["by_reason"].get("flow_new", 0)
        lines = [
            "base : {} plages IPv4, {} IPv6, {} noms".format(*listed),
            f"paquets passés : {number(counts['passed'])}   bloqués : [red]{number(counts['blocked'])}[/]   "
            f"connexions vues : {number(seen)}",
            *(f"[yellow]! {escape(problem)}[/]" for problem in status["problems"]),
        ]
        return Panel("\n".join(lines), title="Boîtier")

    def _blocked(self) -> RenderableType:
        text = Text("\n".join(self._events) or "rien encore", no_wrap=True, overflow="ellipsis")
        return Panel(text, title="Ce qui est bloqué, et pourquoi", border_style="red")

    def draw(self) -> RenderableType:
        keys = "  ".join(f"[b]{key}[/] {escape(text)}" for key, text in KEYS)
        layout = Layout()
        layout.split_column(
            Layout(self._throughput(), size=4),
            Layout(self._state(), size=6),
            Layout(self._blocked()),
            Layout(Panel("\n".join(self._department) or "absent", title="Vu du département"), size=7),
            Layout(Panel(Group(keys, Text(self.note, style="dim")), title="Touches"), size=5),
        )
        return layout

    # -- acting ---------------------------------------------------------------------------------

    def press(self, key: str) -> bool:
        """Returns False to quit."""
        product = self._office.product
        actions: dict[str, Callable[[], object]] = {
            "n": self.day.bad["nom"],
            "s": self.day.bad["sni"],
            "a": self.day.bad["adresse"],
            "b": self.day.bad["balayage"],
            "c": self._office.lab.swap_cables,
        }
        if product is not None:
            actions |= {"k": product.kill, "r": product.start}
        if key == "q":
            return False
        if key in actions:
            self.note = dict(KEYS)[key]
            try:
                actions[key]()
            except (AssertionError, OSError) as error:
                self.note = f"{dict(KEYS)[key]} : {str(error).splitlines()[0]}"
        return True

    def run(self, console: Console, seconds: float) -> None:
        follower = threading.Thread(target=self.follow, daemon=True)
        follower.start()
        self.day.start()
        end = time.monotonic() + seconds if seconds else float("inf")
        screen = console.is_terminal
        try:
            with keyboard() as read_key, Live(self.draw(), console=console, screen=screen, auto_refresh=False) as live:
                drawn = 0.0
                while time.monotonic() < end and self.press(read_key(0.1)):
                    if time.monotonic() - drawn >= REFRESH_S:
                        self.sample()
                        live.update(self.draw(), refresh=screen)
                        drawn = time.monotonic()
                live.update(self.draw())
        finally:
            self._stop.set()
            self.day.stop()


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """Single keys, without Enter; never any when standard input is no terminal."""
    if not sys.stdin.isatty():

        def wait(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield wait
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def show(console: Console, office: Office, seconds: float = 0.0) -> int:
    """Until `q`, or for that many seconds. Returns the exit code."""
    View(office).run(console, seconds)
    return 0
