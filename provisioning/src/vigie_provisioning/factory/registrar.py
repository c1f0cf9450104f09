"""What the station asks of the register, and the line that it writes for a board."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie_provisioning.errors import RegisterError
from vigie_provisioning.factory import book
from vigie_provisioning.factory.board import Park
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.screen import Screen
from vigie_provisioning.factory.stationconfig import StationConfig
from vigie_provisioning.factory.steps import Event, Step
from vigie_provisioning.files import read_bounded
from vigie_provisioning.i18n import _
from vigie_provisioning.register import REGISTER_MAX, Entry, Register, read_register


class Registrar:
    """The register of a station's configuration; read anew each time, since other stations write into it."""

    def __init__(self, config: StationConfig, key: Ed25519PrivateKey, screen: Screen, now: Callable[[], int]) -> None:
        self._config = config
        self._key = key
        self._screen = screen
        self._now = now

    def entry(self, box: str) -> Entry | None:
        """The entry of a box id. RegisterError when the register does not hold."""
        book_ = self._read()
        entries = book_.entries if book_ is not None else ()
        return next((entry for entry in entries if entry.box == box), None)

    def register(self, job: Job) -> Job:
        """Writes the register's line, once: asked again, it names the line that is there.

        Park: the number belongs to another key. ProvisioningError: it is the register that is in trouble.
        """
        known = self.entry(job.box)
        if known is not None and known.serial != job.serial:
            job = job.recovered(known, Step.KEYED, self._now())
        article = book.Article(job.serial, job.claim_id, job.public, job.image, job.lot, job.model)
        config = self._config
        try:
            done = book.append(config.register, self._key, config.operator, config.department, article, self._now())
        except RegisterError as e:
            if self._clash(job):
                raise Park("registered-other", str(e)) from e
            raise
        if done.mended:
            self._screen.say(done.mended)
        entry = done.entry
        job = job.on(Event.REGISTERED, self._now(), f"line {entry.n}", entry=entry.n, claim_id=entry.claim_id)
        if done.known:
            # A line written before a power cut: the box is what the line says.
            job = dataclasses.replace(job, image=entry.image, lot=entry.lot, model=entry.model)
        self._screen.good(_("inscrite au registre, ligne {n}").format(n=entry.n))
        return job

    def _read(self) -> Register | None:
        path = self._config.register
        if not path.exists() or not path.stat().st_size:
            return None
        return read_register(read_bounded(path, REGISTER_MAX), None, path)

    def _clash(self, job: Job) -> bool:
        """Whether it is this board that the register refuses, and not the register that is damaged."""
        with contextlib.suppress(RegisterError):
            found = self._read()
            return found is not None and any(
                job.serial == entry.serial or job.claim_id == entry.claim_id for entry in found.entries
            )
        return False
