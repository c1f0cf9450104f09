"""One board over the serial line: what its hello means for its job, and the steps that need it.

Every step takes the job, does one thing and returns the job after it; the caller writes it down. `Park` says that the
board is not fit; what is wrong with the line or the station is another error and leaves the board where it is.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import secrets
import time
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract.bench import Hello, Outcome, Question, Reset, State, Test, proof_message
from vigie.contract.errors import ContractError
from vigie.contract.identity import box_id
from vigie_provisioning.authority.checks import load_public
from vigie_provisioning.errors import CaError, ProvisioningError
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.line import BoardReset, Line, LineLost
from vigie_provisioning.factory.screen import Screen
from vigie_provisioning.factory.steps import Event, Step, reached
from vigie_provisioning.factory.words import test_name
from vigie_provisioning.i18n import _
from vigie_provisioning.register import Entry

ARMED = "armed"
Find = Callable[[str], Entry | None]
"""The register's entry of a box id."""


class Park(ProvisioningError):
    """This board is put aside. `word` is one of `words`."""

    code = "parked"

    def __init__(self, word: str, detail: str) -> None:
        self.word = word
        super().__init__(f"{word}: {detail}")


def judge(job: Job, hello: Hello, find: Find, now: int) -> Job:
    """The job in the light of what the board says of itself: mostly unchanged. Park when they contradict each other."""
    if hello.box and job.public and hello.box != job.box:
        raise Park("key-changed", f"{hello.box}, it was {job.box}")
    if hello.state in (State.SEALED, State.IN_SERVICE):
        return _sealed(job, hello, find, now)
    if hello.state is State.BLANK and job.public:
        raise Park("key-lost", f"{job.box} was its id")
    if hello.model != job.model:
        raise Park("wrong-image", f"model {hello.model}, {job.model} is expected")
    if job.software and hello.version != job.software:
        raise Park("wrong-image", f"version {hello.version or '?'}, {job.software} was written")
    return job


def _sealed(job: Job, hello: Hello, find: Find, now: int) -> Job:
    """A board that has its box.json. It may be ahead of a station that lost power, or its folder."""
    if reached(job.step, Step.SEALED):
        if hello.serial != job.serial:
            raise Park("sealed-as", f"it says {hello.serial}, its job says {job.serial}")
        return job
    entry = find(hello.box)
    if entry is None or entry.serial != hello.serial:
        raise Park("sealed-unknown", f"{hello.serial} {hello.box}")
    return job.recovered(entry, Step.SEALED, now)


def try_out(
    job: Job, hello: Hello, line: Line, screen: Screen, keep: Callable[[Job], None], boot_s: float, now: int
) -> Job:
    """The next test that is missing, or the end of the tests. Park when it fails and is not to be done again.

    keep: writes a job down before somebody is asked whether to go on.
    """
    missing = job.missing()
    if not missing:
        return job.on(Event.TESTED, now)
    test = missing[0]
    before = job.tests.get(test)
    if test is Test.WATCHDOG and before is not None and before.code == ARMED:
        return _after_reset(job, hello, line, before, boot_s, now, screen)
    _prepare(test, screen)
    outcome = _ask(test, line, screen)
    if test is Test.WATCHDOG and outcome.passed:
        armed = Outcome(False, ARMED, "", {**(outcome.figures or {}), "boot": hello.boot})
        return job.with_result(test, armed, now)
    if (
        test is Test.LEDS
        and outcome.passed
        and not screen.ask(_("Tous les voyants se sont-ils allumés, l'un après l'autre ?"))
    ):
        outcome = Outcome(False, "leds-seen", "", outcome.figures)
    job = job.with_result(test, outcome, now)
    if not outcome.passed:
        keep(job)
        screen.bad(
            _("{test} : échec ({code}) {detail}").format(test=test_name(test), code=outcome.code, detail=outcome.detail)
        )
        if not screen.ask(_("Recommencer cet essai ?")):
            raise Park(outcome.code or "machine", f"{test.value}: {outcome.detail}")
    else:
        screen.good(test_name(test))
    return job


def _prepare(test: Test, screen: Screen) -> None:
    if test is Test.NICS:
        screen.do(_("Reliez les deux ports réseau entre eux par le câble de boucle."))
    elif test is Test.LEDS:
        screen.do(_("Regardez les voyants."))
    elif test is Test.BUTTON:
        screen.do(_("Appuyez une fois sur le bouton, puis relâchez-le."))
    elif test is Test.WATCHDOG:
        screen.say(_("Chien de garde : la carte va redémarrer d'elle-même ; ne touchez à rien."))


def _ask(test: Test, line: Line, screen: Screen) -> Outcome:
    with screen.bar(in_bytes=False) as show:
        answer = line.ask(Question.TEST, lambda done, of: show(test_name(test), done, of), name=test.value)
    try:
        return Outcome.from_dict(answer)
    except ContractError as e:
        raise LineLost(f"the board's answer to the test {test} is not one ({e})") from e


def _after_reset(job: Job, hello: Hello, line: Line, armed: Outcome, boot_s: float, now: int, screen: Screen) -> Job:
    """The watchdog was armed in another start, or in this one and has not bitten yet."""
    boot = str((armed.figures or {}).get("boot", ""))
    if hello.boot == boot:
        seconds = int((armed.figures or {}).get("seconds", 10))
        bitten = time.monotonic() + 2 * seconds + 1
        found = wait_for(
            line,
            2 * seconds + 1 + boot_s,
            lambda h: h.chip == job.chip and (h.boot != boot or time.monotonic() > bitten),
        )
        if found is None:
            raise LineLost("the board went down and has not come back yet")
        if found.boot == boot:
            raise Park("no-reset", f"armed for {seconds} s, the board still runs")
        raise BoardReset(found)
    if hello.reset is Reset.WATCHDOG:
        screen.good(test_name(Test.WATCHDOG))
        return job.with_result(Test.WATCHDOG, Outcome(True, figures=armed.figures), now)
    # Power was cut meanwhile: nothing was shown, it is armed again.
    if not screen.ask(_("Le courant a été coupé pendant l'essai du chien de garde. Recommencer cet essai ?")):
        raise Park("no-reset", "power was cut while it was armed")
    tests: dict[Test, Outcome] = {test: outcome for test, outcome in job.tests.items() if test is not Test.WATCHDOG}
    return dataclasses.replace(job, tests=tests)


def wait_for(line: Line, seconds: float, wanted: Callable[[Hello], bool]) -> Hello | None:
    """The first hello that is wanted, within some seconds."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        hello = line.listen(left)
        if hello is not None and wanted(hello):
            return hello
    return None


def take_key(job: Job, line: Line, now: int) -> Job:
    """Has the board make its key, or name the one it has, and lets it sign a fresh nonce. Park without a good proof."""
    public = _base64(line.ask(Question.KEY).get("public"))
    nonce = secrets.token_hex(32)
    proof = line.ask(Question.PROVE, nonce=nonce)
    try:
        if _base64(proof.get("public")) != public:
            raise Park("proof", "it proved another key than the one it named")
        key = load_public(public)
        key.verify(_base64(proof.get("signature")), proof_message(nonce, public), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, CaError) as e:
        raise Park("proof", "the signature is wrong") from e
    if job.public and job.public != public:
        raise Park("key-changed", f"{box_id(public)}, it was {job.box}")
    return job.on(Event.KEYED, now, box_id(public), public=public)


def seal(job: Job, line: Line, now: int) -> Job:
    """Has the board write box.json. Park when it is another box by now."""
    box = line.ask(Question.SEAL, label=job.label.to_dict()).get("box")
    if box != job.box:
        raise Park("key-changed", f"it sealed itself as {box}, the register has {job.box}")
    return job.on(Event.SEALED, now)


def confirm(job: Job, hello: Hello, line: Line, boot_s: float, now: int) -> Job:
    """Sends a sealed board out of the factory, and hears it start as the box that it now is. LineLost: not yet."""
    if hello.state is State.SEALED:
        line.ask(Question.LEAVE)
        found = wait_for(line, boot_s, lambda h: h.chip == job.chip and h.boot != hello.boot)
        if found is None:
            raise LineLost("the board has not come back after its last restart; switch it off and on")
        raise BoardReset(found)
    if hello.state is not State.IN_SERVICE or hello.box != job.box or hello.serial != job.serial:
        raise Park("sealed-as", f"it started as {hello.serial} {hello.box} ({hello.state})")
    return job.on(Event.CONFIRMED, now)


def _base64(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        return b""
