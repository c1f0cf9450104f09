"""`vigie-department doctor`: what is wrong, in words, and what to do about it."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509

from vigie_department.config import Config
from vigie_department.errors import DepartmentError
from vigie_department.texts import _, ngettext

DISK_MIN: Final = 2 << 30
DISK_LOW: Final = 0.10
BEAT_MAX_S: Final = 60
QUEUE_MAX: Final = 10_000
CLOCK_MAX_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer. ok: nothing to do; todo: what to do, empty when there is nothing."""

    check: str
    ok: bool
    text: str
    todo: str = ""


Check = Callable[[Config], Iterator[Finding]]


def run(config: Config) -> list[Finding]:
    """Every check; one that breaks is a finding of its own and stops nobody."""
    found: list[Finding] = []
    for check in CHECKS:
        name = check.__name__.removeprefix("_")
        try:
            found += list(check(config))
        except Exception as error:  # noqa: BLE001 - a broken check must not hide the others
            found.append(
                Finding(name, False, f"{type(error).__name__}: {error}", _("Ce contrôle n'a pas pu être fait."))
            )
    return found


def _days(end: datetime) -> int:
    return (end - datetime.now(UTC)).days


def _ends(check: str, what: str, end: datetime, warn_days: int, todo: str) -> Finding:
    days = _days(end)
    if days < 0:
        return Finding(check, False, _("{what} a expiré le {date}").format(what=what, date=f"{end:%d/%m/%Y}"), todo)
    text = _("{what} : encore {days} jours").format(what=what, days=days)
    return Finding(check, days >= warn_days, text, "" if days >= warn_days else todo)


def _configuration(config: Config) -> Iterator[Finding]:
    from vigie_department.console import database

    password = bool(database.settings(config).get("PASSWORD"))
    yield Finding(
        "configuration",
        not password,
        _("mot de passe de la base dans {path}").format(path=config.path) if password else str(config.path),
        _("Tous les services lisent ce fichier : passez à l'authentification « peer » de PostgreSQL.")
        if password
        else "",
    )
    left = list(config.paths.offline.rglob("*.pem")) if config.paths.offline.exists() else []
    yield Finding(
        "offline",
        not left,
        _("clés hors ligne encore sur ce serveur : {path}").format(path=config.paths.offline)
        if left
        else _("aucune clé hors ligne sur ce serveur"),
        _("Copiez-les sur les clés USB des détenteurs, vérifiez-les, puis effacez ce dossier.") if left else "",
    )


def _certificates(config: Config) -> Iterator[Finding]:
    from vigie_department.ops import certificates

    todo = _("vigie-department certificates renew")
    for one in certificates.show(config):
        yield _ends("certificates", _("certificat {name}").format(name=one.name), one.at, 30, todo)
    data = (config.paths.pki / "crl.pem").read_bytes()
    end = b"-----END X509 CRL-----"
    for part in data.split(end)[:-1]:
        crl = x509.load_pem_x509_crl(part.lstrip() + end + b"\n")
        name = crl.issuer.rfc4514_string()
        if crl.next_update_utc is not None:
            yield _ends(
                "crl",
                _("liste de révocation de {name}").format(name=name),
                crl.next_update_utc,
                10,
                _("Démarrez vigie-authority : elle la publie deux fois par jour."),
            )


def _disk(config: Config) -> Iterator[Finding]:
    seen: set[int] = set()
    for path in (
        config.paths.data,
        config.paths.repository,
        config.paths.authority,
        config.paths.signer,
        config.paths.broker,
    ):
        if not path.exists() or (device := path.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(path)
        good = usage.free >= max(DISK_MIN, 0) and usage.free >= DISK_LOW * usage.total
        yield Finding(
            "disk",
            good,
            _("{path} : {free:.1f} Go libres sur {total:.0f}").format(
                path=path, free=usage.free / 1e9, total=usage.total / 1e9
            ),
            "" if good else _("Faites de la place : vigie-department retain, journaux, anciennes sauvegardes."),
        )


def _clock(_config: Config) -> Iterator[Finding]:
    import ctypes

    class Timex(ctypes.Structure):
        """struct timex of adjtimex(2): the first fields are all that is read; the rest is room."""

        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("room", ctypes.c_char * 256),
        )

    timex = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    error_s = timex.maxerror / 1e6
    good = state not in (-1, 5) and error_s <= CLOCK_MAX_S  # 5: TIME_ERROR, not synchronised
    yield Finding(
        "clock",
        good,
        _("horloge synchronisée") if good else _("horloge non synchronisée"),
        "" if good else _("Installez et démarrez chrony : les certificats et les ordres dépendent de l'heure."),
    )


def _database(config: Config) -> Iterator[Finding]:
    from django.db import Error, connection
    from django.db.migrations.executor import MigrationExecutor

    try:
        started = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        took = time.monotonic() - started
        executor = MigrationExecutor(connection)
        behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        yield Finding(
            "database",
            False,
            _("la base de données ne répond pas : {error}").format(error=str(error).strip()),
            _("Démarrez PostgreSQL, ou vérifiez « database » dans {path}.").format(path=config.path),
        )
        return
    yield Finding(
        "database",
        not behind,
        _("{n} migrations à faire").format(n=len(behind))
        if behind
        else _("répond en {ms:.0f} ms").format(ms=1000 * took),
        "vigie-department migrate" if behind else "",
    )


def _ingest(_config: Config) -> Iterator[Finding]:
    from vigie_department.console.models import Aside, Cursor, Outgoing

    beat = Cursor.objects.filter(name="ingest").first()
    now = datetime.now(UTC)
    start = _("Démarrez vigie-ingest, et lisez son journal.")
    if beat is None:
        yield Finding("ingest", False, _("l'ingest n'a jamais tourné"), start)
        return
    age = (now - beat.updated).total_seconds()
    if age > BEAT_MAX_S:
        yield Finding("ingest", False, _("l'ingest n'a plus donné signe de vie depuis {s:.0f} s").format(s=age), start)
    else:
        detail: dict[str, Any] = beat.detail
        problems = [text for text in (detail.get("broker"), detail.get("database")) if text]
        problems += [f"{name} : {text}" for name, text in detail.get("problems", {}).items()]
        if detail.get("refused"):
            problems.append(_("{n} messages refusés par le serveur MQTT").format(n=detail["refused"]))
        text = _("{rows} lignes reçues, {waiting} en attente").format(rows=detail["rows"], waiting=detail["waiting"])
        yield Finding(
            "ingest",
            not problems,
            " ; ".join(problems) or text,
            _("Ce qui ne répond pas est nommé ; les boîtiers gardent tout en attendant.") if problems else "",
        )
    waiting = Outgoing.objects.filter(sent=None)
    late = waiting.filter(created__lt=now - timedelta(minutes=5)).count()
    yield Finding(
        "outgoing",
        not late,
        ngettext("{n} ordre attend", "{n} ordres attendent", waiting.count()).format(n=waiting.count()),
        _("Ils ne partent plus : vérifiez l'ingest et mosquitto.") if late else "",
    )
    aside = Aside.objects.filter(at__gte=now - timedelta(days=1)).count()
    yield Finding(
        "aside",
        not aside,
        ngettext("{n} message illisible en 24 h", "{n} messages illisibles en 24 h", aside).format(n=aside),
        _("Regardez-les dans la console : ils viennent de boîtiers plus récents que ce serveur, ou sont mal formés.")
        if aside
        else "",
    )


def _broker(config: Config) -> Iterator[Finding]:
    """A handshake as the ingest does it, without a session: its own would be taken over."""
    from vigie_department.ingest.broker import context

    todo = _("Démarrez mosquitto ; son journal dit pourquoi il refuse.")
    try:
        with (
            socket.create_connection((config.broker.address, config.ports.mqtt), timeout=5) as raw,
            context(config).wrap_socket(raw) as tls,
        ):
            version = tls.version()
    except (OSError, ssl.SSLError, DepartmentError) as error:
        yield Finding("broker", False, _("mosquitto ne répond pas : {error}").format(error=error), todo)
        return
    yield Finding("broker", True, _("répond en {version}").format(version=version))


def _web(config: Config) -> Iterator[Finding]:
    """nginx in front of everything, by each of its names."""
    context = ssl.create_default_context(cafile=str(config.paths.pki / "roots.pem"))
    for host in (config.enrol_host, config.updates_host, config.console_host):
        try:
            with (
                socket.create_connection((config.listen or "127.0.0.1", config.ports.https), timeout=5) as raw,
                context.wrap_socket(raw, server_hostname=host) as tls,
            ):
                tls.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                line = tls.recv(64).split(b"\r\n", 1)[0].decode("latin-1")
        except (OSError, ssl.SSLError) as error:
            yield Finding("web", False, f"{host} : {error}", _("Démarrez nginx ; `nginx -t` dit ce qui ne va pas."))
            continue
        code = line.split(" ")[1] if " " in line else ""
        good = code.isdigit() and int(code) < 500
        yield Finding("web", good, f"{host} : {line}", "" if good else _("nginx répond, le service derrière lui non."))


def _authority(config: Config) -> Iterator[Finding]:
    from vigie_department.console.services.authority import Client

    status = Client(config.paths.authority_admin, timeout_s=5).status()
    waiting = status["conflicts"] + status["clones"]
    yield Finding(
        "authority",
        not waiting,
        _("{n} boîtiers en conflit ou clonés").format(n=waiting) if waiting else _("répond"),
        _("Débloquez-les après vérification : box list --state conflict, box release.") if waiting else "",
    )
    newest: dict[str, dict[str, Any]] = {}
    for key in status["keys"]:
        # of each role the last one is in use; the others only wait for their end
        newest[str(key["name"]).rpartition("-")[0]] = key
    todo = _("vigie-authority rotate, avec la clé racine hors ligne")
    for key in newest.values():
        end = datetime.fromtimestamp(key["not_after"], UTC)
        yield _ends("authority", _("clé {name}").format(name=key["name"]), end, 180, todo)


def _signer(config: Config) -> Iterator[Finding]:
    from vigie_department.signer.client import Signer

    status = Signer(config.paths.signer_socket, timeout_s=5).status()
    failed = status.get("failed")
    yield Finding(
        "signer",
        not failed,
        str(failed) if failed else _("répond"),
        _("Le signataire refuse de signer : `vigie-department log verify`.") if failed else "",
    )
    limits = {"root": 90, "targets": 90, "base": 14, "snapshot": 4, "timestamp": 2}
    for role, end in status.get("expires", {}).items():
        offline = role in ("root", "targets")
        todo = (
            _("deux détenteurs renouvellent : vigie-department keys renew")
            if offline
            else _("vigie-department base refresh (une minuterie le fait chaque heure)")
        )
        yield _ends("tuf", f"TUF {role}", datetime.fromtimestamp(end, UTC), limits.get(role, 14), todo)


def _revocations(config: Config) -> Iterator[Finding]:
    """`broker watch` says what it has put in force."""
    import json

    from vigie_department.broker.plan import broker_plan

    path = broker_plan(config).status
    todo = _("Démarrez vigie-broker-watch : sans lui une révocation n'atteint pas les sessions ouvertes.")
    if not path.exists():
        yield Finding("revocations", False, _("la surveillance des révocations n'a jamais tourné"), todo)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    problems = [str(problem["text"]) for problem in found["problems"]]
    yield Finding("revocations", not problems, "; ".join(problems) or _("en vigueur"), todo if problems else "")


def _documents(_config: Config) -> Iterator[Finding]:
    from vigie_department.console.models import Box, BoxStatus, DesiredState

    now = datetime.now(UTC)
    serving = Box.objects.filter(state__in=(Box.State.ACTIVE, Box.State.PENDING))
    without = serving.exclude(pk__in=DesiredState.objects.filter(expires__gt=now).values("box")).count()
    yield Finding(
        "documents",
        not without,
        _("{n} boîtiers en service sans ordres valables").format(n=without)
        if without
        else _("tous les boîtiers ont le leur"),
        _("L'ingest les signe dans les minutes qui suivent, si le signataire répond.") if without else "",
    )
    silent = BoxStatus.objects.filter(box__in=serving, online=False).count()
    yield Finding(
        "boxes",
        True,
        _("{n} en service, {silent} hors ligne").format(n=serving.count(), silent=silent),
    )


def _rollout(_config: Config) -> Iterator[Finding]:
    """A rollout that stopped itself, or that nothing moves any more."""
    from vigie_department.rollout import status

    for alarm in status.alarms():
        yield Finding("rollout", not alarm.todo, alarm.text, alarm.todo)


def _backup(config: Config) -> Iterator[Finding]:
    from vigie_department.ops import backup

    last = backup.latest(config.paths.backup)
    todo = _("vigie-department backup, chaque nuit, et une copie sur une autre machine")
    if last is None:
        yield Finding("backup", False, _("aucune sauvegarde"), todo)
        return
    age = (datetime.now(UTC) - datetime.fromtimestamp(last.stat().st_mtime, UTC)).days
    yield Finding(
        "backup", age <= 2, _("{path}, il y a {days} jours").format(path=last.name, days=age), "" if age <= 2 else todo
    )


CHECKS: Final[tuple[Check, ...]] = (
    _configuration,
    _certificates,
    _disk,
    _clock,
    _database,
    _ingest,
    _documents,
    _rollout,
    _broker,
    _revocations,
    _web,
    _authority,
    _signer,
    _backup,
)
