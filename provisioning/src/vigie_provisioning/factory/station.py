"""The flashing station: one board after the other, from an empty eMMC to a label.

The order of the steps is `steps`; this module finds the board, does the next step, writes it down, and begins again.
Nothing is remembered outside the job's file and the register, so a station can be killed anywhere and started again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract.bench import Hello, State
from vigie.contract.identity import claim_id
from vigie_provisioning.errors import BusyError, ProvisioningError
from vigie_provisioning.factory import board, flash, paper, words
from vigie_provisioning.factory.board import Park
from vigie_provisioning.factory.disks import Disk, DiskError, Disks
from vigie_provisioning.factory.image import Image
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.jobstore import JobStore, lock_file
from vigie_provisioning.factory.line import BoardReset, Line, LineLost, Refused, Timing
from vigie_provisioning.factory.registrar import Registrar
from vigie_provisioning.factory.screen import Screen
from vigie_provisioning.factory.stationconfig import StationConfig
from vigie_provisioning.factory.steps import Action, Event, Step, reached
from vigie_provisioning.i18n import _

ATTEMPTS: Final = 5
"""Times in a row that the line may break at one step before the board is put aside."""
_RPIBOOT_S: Final = 120
_LOOK_S: Final = 0.5

Run = Callable[[Sequence[str], float], None]
Make = Callable[[int], flash.Target]


class Station:
    """A station. now: Unix time; run: a command with a time limit; target: the disk behind a descriptor."""

    def __init__(
        self,
        config: StationConfig,
        image: Image,
        key: Ed25519PrivateKey,
        screen: Screen,
        disks: Disks,
        *,
        now: Callable[[], int] = lambda: int(time.time()),
        run: Run | None = None,
        target: Make = flash.Device,
        store: JobStore | None = None,
    ) -> None:
        self._config = config
        self._image = image
        self._screen = screen
        self._disks = disks
        self._now = now
        self._run = run or paper.command
        self._target = target
        self._store = store or JobStore(config.state)
        self._registrar = Registrar(config, key, screen, now)
        self._chip = ""
        self._line = Line(config.port, Timing(config.again_s, config.patience_s), self._log)
        self._left: set[str] = set()
        self._booted: set[str] = set()

    def open(self) -> None:
        """Takes the serial port: what is wrong with it is said before the first board. BusyError, LineLost."""
        self._line.open()

    def close(self) -> None:
        """Lets go of the serial port."""
        self._line.close()

    def one(self) -> Job:
        """Waits for a board and takes it as far as it goes. ProvisioningError: the station itself cannot go on."""
        self._screen.do(_("Branchez une carte : cavalier de démarrage USB posé, câble USB, câble série, alimentation."))
        while True:
            self._start_boot_roms()
            job = self._from_usb() or self._from_line()
            if job is not None:
                return job

    # -- finding a board

    def _start_boot_roms(self) -> None:
        """Runs rpiboot once for each board that waits for it."""
        waiting = set(self._disks.boot_roms(self._config.usb))
        self._booted &= waiting
        for place in sorted(waiting - self._booted):
            self._booted.add(place)
            if not self._config.rpiboot:
                continue
            self._screen.say(_("Carte en attente sur le port USB {place} : démarrage en disque…").format(place=place))
            try:
                with self._alone("rpiboot"):
                    self._run([*self._config.rpiboot, "-p", place], _RPIBOOT_S)
            except ProvisioningError as e:
                self._screen.bad(str(e))

    def _from_usb(self) -> Job | None:
        disks = self._disks.gadgets(self._config.usb)
        self._left &= {disk.chip for disk in disks}
        fresh = [disk for disk in disks if disk.chip not in self._left]
        if len(fresh) > 1 and not self._config.usb:
            places = ", ".join(disk.usb for disk in fresh)
            text = _("plusieurs cartes en USB ({places}) : n'en laissez qu'une, ou dites à ce poste son port (--usb)")
            raise DiskError(text.format(places=places))
        for disk in fresh:
            self._left.add(disk.chip)
            try:
                with self._store.claim(disk.chip):
                    return self._board(disk.chip, disk, None)
            except BusyError:
                return None  # the other station's
            except DiskError:
                self._left.discard(disk.chip)  # it may be mended without unplugging: unmounted, for one
                raise
        return None

    def _from_line(self) -> Job | None:
        hello = self._line.listen(_LOOK_S)
        if hello is None or hello.state is State.REPORT:
            return None
        if self._store.read(hello.chip) is None and not hello.box:
            key = f"{hello.chip} {hello.boot}"
            if key not in self._left:
                self._left.add(key)
                text = _("Carte {chip} inconnue de ce poste : posez le cavalier USB pour qu'elle soit d'abord écrite.")
                self._screen.bad(text.format(chip=hello.chip))
            return None
        try:
            with self._store.claim(hello.chip):
                job = self._store.read(hello.chip)
                if job is not None and job.action in (Action.NONE, Action.FLASH):
                    self._already(job, hello.boot)
                    return None
                return self._board(hello.chip, None, hello)
        except BusyError:
            return None

    def _already(self, job: Job, boot: str) -> None:
        """Says once a start what is known of a board that there is nothing to do for."""
        if f"{job.chip} {boot}" not in self._left:
            self._left.add(f"{job.chip} {boot}")
            self._screen.say(words.summary(job))

    # -- a board

    def _board(self, chip: str, disk: Disk | None, hello: Hello | None) -> Job:
        self._chip = chip
        job = self._store.read(chip) or self._new(chip, hello)
        if job.parked is not None or job.step is Step.DONE:
            self._screen.say(words.summary(job))
            return job
        if job.step is not Step.NEW:
            text = _("Carte {serial} reprise : {step}.")
            self._screen.say(text.format(serial=job.serial, step=words.step_name(job.step)))
        try:
            if disk is not None:
                job = self._flash(job, disk)
            job = self._rest(job, hello)
        except Park as e:
            job = self._park(job.chip, e.word, str(e).partition(": ")[2])
        except Refused as e:
            job = self._park(job.chip, e.word or "machine", str(e).partition(": ")[2])
        if job.step is Step.DONE:
            self._screen.good(
                _("Carte {serial} terminée : collez l'étiquette, passez à la suivante.").format(serial=job.serial)
            )
        return job

    def _new(self, chip: str, hello: Hello | None) -> Job:
        config = self._config
        job = Job(
            chip=chip,
            serial=config.serial_prefix + chip,
            claim_id=claim_id(secrets.token_bytes(7)),
            model=config.model,
            lot=config.lot,
            image=self._image.digest,
        )
        entry = self._registrar.entry(hello.box) if hello is not None and hello.box else None
        if entry is not None:
            # The register knows it: this station's folder is new, or was lost.
            job = job.recovered(entry, Step.REGISTERED, self._now())
        self._store.write(job)
        return job

    def _keep(self, job: Job) -> None:
        self._store.write(job)

    def _park(self, chip: str, word: str, detail: str) -> Job:
        job = self._store.read(chip)
        if job is None:
            raise ProvisioningError(f"the job of {chip} is gone while it was worked on; somebody removed its file")
        job = job.park(word, detail, self._now())
        self._store.write(job)
        self._screen.bad(_("Carte {serial} mise de côté : {why}").format(serial=job.serial, why=_why(job)))
        return job

    def _flash(self, job: Job, disk: Disk) -> Job:
        if job.action is not Action.FLASH:
            text = _("Carte {serial} : l'image y est déjà ({step}). Retirez le cavalier et rallumez-la.")
            self._screen.do(text.format(serial=job.serial, step=words.step_name(job.step)))
            return job
        self._screen.say(
            _("Carte {serial} : écriture de {image} sur {disk} ({gb:.1f} Go)").format(
                serial=job.serial, image=self._image.path.name, disk=disk.name, gb=disk.size / 1e9
            )
        )
        try:
            self._disks.prove(disk, self._image.size)
            fd = self._disks.open(disk)
            try:
                with self._screen.bar(in_bytes=True) as show:
                    titles = {"write": _("écriture"), "verify": _("relecture")}
                    kept = flash.write(
                        self._image,
                        disk,
                        self._target(fd),
                        lambda phase, done, of: show(titles[phase], done, of),
                        erase_identity=job.erase,
                    )
            finally:
                os.close(fd)
        except flash.ReadBackError as e:
            raise Park("read-back", str(e)) from e
        note = "identity kept" if kept else ""
        changes = {"image": self._image.digest, "software": self._image.version, "erase": False, "rewrite": False}
        if not reached(job.step, Step.KEYED):
            changes["tests"] = {}
        job = job.on(Event.FLASHED, self._now(), note, **changes)
        self._keep(job)
        self._screen.good(_("image écrite et relue"))
        if kept:
            self._screen.say(_("Cette carte avait déjà une identité : elle la garde."))
        self._screen.do(_("Retirez le cavalier et le câble USB, puis éteignez et rallumez la carte."))
        self._switch()
        return job

    def _switch(self) -> None:
        """Off and on, where the station can."""
        if not self._config.power:
            return
        for state in ("off", "on"):
            try:
                self._run([*self._config.power, state], 30)
            except ProvisioningError as e:
                self._screen.bad(str(e))

    def _rest(self, job: Job, hello: Hello | None) -> Job:
        """Everything after flashing."""
        broken = 0
        while (action := job.action) is not Action.NONE:
            before = job
            try:
                if action is Action.REGISTER:
                    job = self._registrar.register(job)
                elif action is Action.LABEL:
                    job = self._label(job)
                else:
                    if hello is None:
                        hello = self._await(job)
                    job = self._over_line(job, hello, action)
                self._keep(job)
            except BoardReset as e:
                hello = e.hello
                job = self._store.read(job.chip) or job
                broken += 1
            except LineLost as e:
                hello = None
                broken += 1
                self._screen.bad(_("liaison série interrompue : {detail}").format(detail=e))
            if job.step is not before.step or job.tests != before.tests:
                broken = 0
            if broken > ATTEMPTS:
                raise Park("line", f"{broken} times at the step `{job.step}`")
        return job

    def _over_line(self, job: Job, hello: Hello, action: Action) -> Job:
        if hello.state is not State.IN_SERVICE:
            # As of now: what it said when it was switched on is some steps old.
            hello = self._line.greet(hello)
        judged = board.judge(job, hello, self._registrar.entry, self._now())
        if judged is not job:
            return judged
        match action:
            case Action.TEST:
                return board.try_out(job, hello, self._line, self._screen, self._keep, self._config.boot_s, self._now())
            case Action.KEY:
                job = board.take_key(job, self._line, self._now())
                self._screen.good(_("clé créée par la carte : {box}").format(box=job.box))
                return job
            case Action.SEAL:
                return board.seal(job, self._line, self._now())
            case Action.CONFIRM:
                job = board.confirm(job, hello, self._line, self._config.boot_s, self._now())
                self._screen.good(_("la carte a redémarré en service"))
                return job
        raise Park("not-now", f"{action} is not done over the line")

    def _await(self, job: Job) -> Hello:
        """The next hello of this board. Park when there is none, and nobody wants to wait longer."""
        while True:
            hello = board.wait_for(self._line, self._config.boot_s, lambda h: h.state is not State.REPORT)
            if hello is not None and hello.chip == job.chip:
                return hello
            if hello is not None:
                text = _("Une autre carte répond sur le câble série ({chip}) : branchez-le sur {serial}.")
                self._screen.bad(text.format(chip=hello.chip, serial=job.serial))
            if not self._screen.ask(
                _("La carte {serial} ne se fait pas entendre. Attendre encore ?").format(serial=job.serial)
            ):
                raise Park("silent", self._store.last_words(job.chip))

    def _label(self, job: Job) -> Job:
        file = paper.make(self._store, self._config, job)[0]
        if self._config.print:
            try:
                self._run([*self._config.print, str(file)], 60)
            except ProvisioningError as e:
                self._screen.bad(str(e))
                if not self._screen.ask(_("L'étiquette n'est pas imprimée. Continuer sans elle ?")):
                    raise
        self._screen.good(_("étiquette : {file}").format(file=file))
        return job.on(Event.LABELLED, self._now())

    # -- small things

    @contextlib.contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """One station of this machine at a time. ProvisioningError."""
        fd = lock_file(self._config.state / f"{what}.lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _log(self, lines: list[str]) -> None:
        if self._chip:
            self._store.log(self._chip, lines)


def _why(job: Job) -> str:
    return words.why(job.parked) if job.parked is not None else ""
