"""`vigie-factory station`, and what goes with it: `jobs`, `unpark`, `again`, `label`."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract.bench import CHIP
from vigie.contract.identity import claim_id
from vigie_provisioning.commands import show, who
from vigie_provisioning.errors import NotFoundError, ProvisioningError, StateError, UsageError
from vigie_provisioning.factory import image as images
from vigie_provisioning.factory import paper, stationconfig, words
from vigie_provisioning.factory.disks import Disks
from vigie_provisioning.factory.image import Image, ImageError
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.jobstore import JobStore
from vigie_provisioning.factory.label import check_fonts
from vigie_provisioning.factory.line import check_port
from vigie_provisioning.factory.screen import Screen, Terminal
from vigie_provisioning.factory.station import Station
from vigie_provisioning.factory.stationconfig import StationConfig
from vigie_provisioning.factory.steps import Step
from vigie_provisioning.files import read_bounded
from vigie_provisioning.i18n import _
from vigie_provisioning.register import REGISTER_MAX, read_register

OpenKey = Callable[[Path], Ed25519PrivateKey]
EXIT_INTERRUPTED: Final = 130
_PATHS: Final = ("image", "register", "operator_key", "state")
_TEXTS: Final = ("department", "port", "operator", "digest", "usb", "lot", "model", "page")


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser], open_key: OpenKey) -> None:
    """Adds the commands."""
    station = commands.add_parser("station", help="flash, test and register boards, one after the other")
    _options(station)
    station.add_argument("--once", action="store_true", help="one board, then stop")
    station.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing anywhere")
    station.set_defaults(run=lambda args: _station(args, open_key))

    listed = commands.add_parser("jobs", help="the boards of this station and how far they are")
    _options(listed)
    listed.set_defaults(run=_jobs)

    for name, command, text in (
        ("unpark", _unpark, "take a parked board up again, after what was wrong is mended"),
        ("again", _again, "begin a board again with another serial number; its old identity is erased"),
        ("label", _label, "make a board's label again"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        _options(sub)
        sub.add_argument("board", help="serial number, or the 8 digits of the processor")
        sub.set_defaults(run=command)
        if name == "unpark":
            sub.add_argument(
                "--write", action="store_true", help="write its image again first; a key that it has stays"
            )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help=f"station.toml (default: {stationconfig.DEFAULT_FILE})")
    for name in (*_PATHS, *_TEXTS):
        kind = Path if name in _PATHS else str
        text = f"over the configuration's `{name}`"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="WORD", help=text)


def _config(args: argparse.Namespace) -> StationConfig:
    given = {name: getattr(args, name) for name in (*_PATHS, *_TEXTS)}
    config = stationconfig.load(args.config, given)
    return config if config.operator else dataclasses.replace(config, operator=who())


def _station(args: argparse.Namespace, open_key: OpenKey) -> int:
    config = _config(args)
    screen = Terminal()
    check_port(config.port)
    check_fonts()
    image = check_image(config, screen)
    key = open_key(config.operator_key)
    disks = Disks()
    if args.dry_run:
        for line in plan(config, image, disks):
            screen.say(line)
        return 0
    station = Station(config, image, key, screen, disks)
    try:
        station.open()
        return work(station, screen, once=args.once)
    finally:
        station.close()


def check_image(config: StationConfig, screen: Screen) -> Image:
    """The image, read once. ImageError, also when it was built for another board than this station makes."""
    with screen.bar(in_bytes=True) as bar:
        image = images.check(config.image, lambda n, of: bar(_("image"), n, of), digest=config.digest)
    if image.variant and config.model.split("-")[:2] != ["vigie", image.variant]:
        text = _("{image} est faite pour la carte « {variant} » ; ce poste fait des boîtiers « {model} »")
        raise ImageError(text.format(image=image.path.name, variant=image.variant, model=config.model))
    screen.good(_("image {name}, SHA-256 {digest}…").format(name=image.path.name, digest=image.digest[:16]))
    return image


def work(station: Station, screen: Screen, *, once: bool) -> int:
    """Board after board. Exit code: 0, 1 when the only board was parked, 130 when somebody stopped it."""
    while True:
        try:
            job = station.one()
        except KeyboardInterrupt:
            screen.say(_("Arrêt. Rien n'est perdu : relancez le poste, la carte en cours reprendra où elle en est."))
            return EXIT_INTERRUPTED
        except ProvisioningError as e:
            screen.bad(str(e))
            if once or not screen.ask(_("Reprendre ?")):
                return e.exit_code
            continue
        if once:
            return 0 if job.step is Step.DONE else 1


def plan(config: StationConfig, image: Image, disks: Disks) -> list[str]:
    """What a station would do now. Reads; opens no device and no port, writes nothing."""
    lines = []
    register = config.register
    if register.exists() and register.stat().st_size:
        book = read_register(read_bounded(register, REGISTER_MAX), None, register)
        if book.department != config.department:
            raise UsageError(f"{register}: is the register of {book.department}, not of {config.department}")
        lines.append(_("registre : {n} boîtiers, il tient").format(n=len(book.entries)))
    else:
        lines.append(_("registre : il sera commencé dans {file}").format(file=register))
    jobs = {path.stem for path in (config.state / "jobs").glob("*.json")}
    store = JobStore(config.state) if jobs else None
    found = disks.gadgets(config.usb)
    for disk in found:
        job = store.read(disk.chip) if store is not None else None
        if job is not None and job.step is not Step.NEW:
            lines.append(words.summary(job))
            continue
        disks.prove(disk, image.size)
        text = _("{disk} (port {usb}, {gb:.1f} Go) : {image} y serait écrite, numéro {serial}")
        serial = job.serial if job is not None else config.serial_prefix + disk.chip
        lines.append(
            text.format(disk=disk.name, usb=disk.usb, gb=disk.size / 1e9, image=image.path.name, serial=serial)
        )
    for place in disks.boot_roms(config.usb):
        lines.append(_("port USB {place} : une carte attend rpiboot").format(place=place))
    if not found and not disks.boot_roms(config.usb):
        lines.append(_("aucune carte en USB"))
    lines.append(_("console série : {port}").format(port=config.port))
    return lines


def _jobs(args: argparse.Namespace) -> int:
    rows = JobStore(_config(args).state).all()
    result = [
        {
            "chip": job.chip,
            "serial": job.serial,
            "box": job.box,
            "step": job.step.value,
            "parked": None if job.parked is None else job.parked.code,
        }
        for job in rows
    ]
    return show(args, result, lambda _result: "\n".join(words.summary(job) for job in rows) or _("aucune carte"))


def _unpark(args: argparse.Namespace) -> int:
    store, job = _find(args)
    with store.claim(job.chip):
        if job.parked is None:
            raise StateError(f"{job.serial}: is not parked")
        job = job.unpark(int(time.time()), rewrite=args.write)
        store.write(job)
    return show(args, {"serial": job.serial, "step": job.step.value}, lambda _result: words.summary(job))


def _again(args: argparse.Namespace) -> int:
    store, job = _find(args)
    config = _config(args)
    with store.claim(job.chip):
        fresh = begin_again(job, config, int(time.time()))
        store.write(fresh)

    def say(_result: Any) -> str:
        text = _("{old} devient {serial} : remettez la carte en USB. Si {old} est inscrit, bloquez-le à l'autorité.")
        return text.format(old=job.serial, serial=fresh.serial)

    return show(args, {"was": job.serial, "serial": fresh.serial}, say)


def begin_again(job: Job, config: StationConfig, now: int) -> Job:
    """A job from the beginning, with the next serial number that neither it nor the register has used."""
    base = config.serial_prefix + job.chip
    used = {job.serial}
    register = config.register
    if register.exists() and register.stat().st_size:
        book = read_register(read_bounded(register, REGISTER_MAX), None, register)
        used |= {entry.serial for entry in book.entries}
    serial = next(name for n in range(2, 100) if (name := f"{base}-{n}") not in used)
    fresh = Job(job.chip, serial, claim_id(secrets.token_bytes(7)), config.model, config.lot, "", erase=True)
    return dataclasses.replace(fresh, history=(*job.history, (now, f"begun again, it was {job.serial}")))


def _label(args: argparse.Namespace) -> int:
    store, job = _find(args)
    if not job.entry:
        raise StateError(f"{job.serial}: is not registered yet, so it has no label")
    files = paper.make(store, _config(args), job)
    result = {"pdf": str(files[0]), "png": str(files[1])}
    return show(args, result, lambda r: f"{r['pdf']}\n{r['png']}")


def _find(args: argparse.Namespace) -> tuple[JobStore, Job]:
    store = JobStore(_config(args).state)
    word = str(args.board)
    if CHIP.fullmatch(word.lower()) and (job := store.read(word.lower())) is not None:
        return store, job
    for job in store.all():
        if job.serial == word:
            return store, job
    raise NotFoundError(f"{word}: no board of this station; `vigie-factory jobs` lists them")
