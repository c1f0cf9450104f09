"""The board's answers, without a board: what may be asked when, what is done once, what survives."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.support.simboard import machine_root
from vigie.contract.bench import Code, Hello, Question, Reset, State, Test, proof_message
from vigie.contract.benchline import Decoder, Side, encode
from vigie.contract.identity import box_id
from vigie.enrol.identity import load
from vigie.factory import checks
from vigie.factory.answers import BORED_S, HELLO_S, QUIET_S, SLOW_S, Answers
from vigie.factory.checks import Bench
from vigie.factory.errors import FactoryError
from vigie.factory.facts import collect
from vigie.factory.keeping import Keeping
from vigie.factory.machine import Board
from vigie.factory.program import introduce, read_parts
from vigie.factory.states import ALLOWED, allowed, state_of

LABEL = {"v": 1, "serial": "VG-1", "model": "vigie-cm4", "claim_id": "0000-0000-0000", "lot": "", "image": "ab" * 32}
NONCE = "5a" * 32


class Machine(Board):
    """Files below a folder, and a loop cable, a button, a watchdog that a test decides."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lost: dict[str, int] = {}
        self.presses: list[bool] = [False, False, True, True, False]
        self.armed: list[int] = []
        self.bridge: list[bool] = []
        self.watchdog: FactoryError | None = None

    def exchange(self, sender: str, receiver: str, count: int) -> int:
        return count - self.lost.get(sender, 0)

    def quiet(self, bridge: str, on: bool) -> None:
        self.bridge.append(on)

    def arm_watchdog(self, seconds: int) -> None:
        if self.watchdog is not None:
            raise self.watchdog
        self.armed.append(seconds)

    def pressed(self) -> bool | None:
        return self.presses.pop(0) if self.presses else False


class Talk:
    """A station with one hand on the clock."""

    def __init__(self, folder: Path) -> None:
        for name in ("identity", "data", "root"):
            (folder / name).mkdir()
        machine_root(folder / "root", "0badcafe")
        self.boot("11" * 16, folder / "root")
        self.machine = Machine(folder / "root")
        self.folder = folder
        self.keeping = Keeping(folder / "identity")
        self.now = 100.0
        self.number = 0
        self.session = "aa" * 8
        self.decoder = Decoder(Side.STATION)
        self.bench = Bench(self.machine, self.keeping, folder / "data", ("ACT", "PWR"), lambda seconds: None)
        self.start()

    def boot(self, boot: str, root: Path | None = None) -> None:
        root = root or self.machine.root
        (root / "proc/sys/kernel/random/boot_id").write_text(boot + "\n")

    def start(self, *, report_only: bool = False) -> None:
        """The program, started again."""
        self.answers = Answers(
            self.bench,
            lambda: collect(self.machine, Path("/nowhere"), lambda argv: ""),
            lambda state: introduce(self.machine, self.keeping, "vigie-cm4", state),
            report_only=report_only,
        )

    def send(self, question: str, number: int | None = None, **arguments: Any) -> list[dict[str, Any]]:
        if number is None:
            self.number += 1
            number = self.number
        body = {"s": self.session, "q": question, "a": arguments}
        out = self.answers.receive(encode(Side.STATION, number, body), self.now)
        return [frame.body for frame in self.decoder.feed(out)]

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        """The final answer."""
        said = self.send(question, **arguments)
        for _ in range(2000):
            for body in said:
                if "ok" in body or "no" in body:
                    return body
            self.now += 0.1
            said = [frame.body for frame in self.decoder.feed(self.answers.turn(self.now))]
        raise AssertionError("no answer")


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


def no(code: Code) -> Callable[[dict[str, Any]], bool]:
    return lambda answer: answer.get("no", {}).get("code") == code.value


def test_every_state_has_its_line() -> None:
    assert set(ALLOWED) == set(State)
    assert state_of(False, False) is State.BLANK
    assert state_of(True, False) is State.KEYED
    assert state_of(True, True) is state_of(False, True) is State.SEALED
    for state in (State.SEALED, State.IN_SERVICE, State.REPORT):
        assert not allowed(state, Question.KEY)
        assert not allowed(state, Question.TEST)
        assert not allowed(state, Question.PROVE)
    assert not ALLOWED[State.IN_SERVICE]


def test_the_whole_way(talk: Talk) -> None:
    assert talk.ask("hello")["ok"]["state"] == "blank"
    assert no(Code.NOT_NOW)(talk.ask("prove", nonce=NONCE))
    assert no(Code.NOT_NOW)(talk.ask("seal", label=LABEL))
    public = base64.b64decode(talk.ask("key")["ok"]["public"])
    assert base64.b64decode(talk.ask("key")["ok"]["public"]) == public
    assert (talk.folder / "identity/identity.key").stat().st_mode & 0o777 == 0o600
    proof = talk.ask("prove", nonce=NONCE)["ok"]
    key = load_der_public_key(base64.b64decode(proof["public"]))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(base64.b64decode(proof["signature"]), proof_message(NONCE, public), ec.ECDSA(hashes.SHA256()))
    assert no(Code.NOT_NOW)(talk.ask("leave"))
    assert talk.ask("seal", label=LABEL)["ok"]["box"] == box_id(public)
    assert talk.ask("seal", label=LABEL)["ok"]["box"] == box_id(public)
    assert no(Code.SEALED_AS)(talk.ask("seal", label=LABEL | {"serial": "VG-2"}))
    for question in ("key", "test", "prove", "restart"):
        assert no(Code.NOT_NOW)(talk.ask(question, name="nics", nonce=NONCE))
    identity = load(talk.folder / "identity")  # as the box's own service reads it
    assert (identity.serial, identity.box_id) == ("VG-1", box_id(public))
    assert talk.answers.leaving is None
    talk.ask("leave")
    assert talk.answers.leaving is Question.LEAVE


def test_a_question_heard_twice_is_done_once(talk: Talk) -> None:
    first = talk.send("test", 5, name="watchdog")
    assert first[0]["w"] == {"done": 0, "of": 0}
    for _ in range(5):
        talk.answers.turn(talk.now)
    for _ in range(3):
        assert talk.send("test", 5, name="watchdog")[0]["ok"]["passed"] is True
    assert talk.machine.armed == [checks.WATCHDOG_S]
    assert talk.send("test", 4, name="watchdog") == []  # an older one
    assert talk.machine.armed == [checks.WATCHDOG_S]


def test_busy_and_another_session(talk: Talk) -> None:
    talk.machine.presses = []
    talk.send("test", 1, name="button")
    talk.answers.turn(talk.now)
    assert no(Code.BUSY)(talk.send("hello", 2)[0])
    talk.session = "bb" * 8
    assert talk.send("hello", 1)[0]["ok"]["state"] == "blank"
    assert not talk.answers.busy


@pytest.mark.parametrize(
    ("question", "arguments", "code"),
    [
        ("later", {}, Code.UNKNOWN),
        ("test", {"name": "other"}, Code.MALFORMED),
        ("test", {}, Code.MALFORMED),
        ("seal", {"label": LABEL | {"claim_id": "x"}}, Code.MALFORMED),
        ("prove", {"nonce": "5a"}, Code.MALFORMED),
    ],
)
def test_questions_that_are_wrong(talk: Talk, question: str, arguments: dict[str, Any], code: Code) -> None:
    talk.ask("key")
    assert no(code)(talk.ask(question, **arguments))


def test_hellos_until_somebody_asks(talk: Talk) -> None:
    def hellos(seconds: float) -> int:
        found = 0
        for _ in range(int(seconds * 10)):
            talk.now += 0.1
            found += sum("hello" in frame.body for frame in talk.decoder.feed(talk.answers.turn(talk.now)))
        return found

    assert 3 <= hellos(4 * HELLO_S) <= 5
    talk.ask("hello")
    assert hellos(QUIET_S - 0.5) == 0
    assert hellos(4 * HELLO_S) >= 3
    hellos(BORED_S)
    assert 3 <= hellos(4 * SLOW_S) <= 5
    talk.ask("hello")
    hellos(QUIET_S)
    assert hellos(4 * HELLO_S) >= 3


def test_a_report_only_board_changes_nothing(talk: Talk) -> None:
    talk.start(report_only=True)
    assert talk.ask("hello")["ok"]["state"] == "report"
    for question in ("key", "prove", "seal", "test", "leave"):
        assert no(Code.NOT_NOW)(talk.ask(question, nonce=NONCE, name="nics", label=LABEL))
    report = talk.ask("report")["ok"]
    assert (report["variant"], report["slot"], report["chip"], report["failed_units"]) == ("", "A", "0badcafe", [])
    assert list((talk.folder / "identity").iterdir()) == []


def test_a_spoilt_key_is_not_replaced(talk: Talk) -> None:
    (talk.folder / "identity/identity.key").write_text("rubbish")
    assert no(Code.KEY_SPOILT)(talk.ask("key"))
    assert (talk.folder / "identity/identity.key").read_text() == "rubbish"


def test_a_full_disk(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    import vigie.host.files

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vigie.host.files.os, "fsync", full)
    assert no(Code.DISK_FULL)(talk.ask("key"))
    monkeypatch.undo()
    assert "ok" in talk.ask("key")


# -- the tests


@pytest.mark.parametrize("test", list(Test))
def test_a_good_board_passes(talk: Talk, test: Test) -> None:
    outcome = talk.ask("test", name=test.value)["ok"]
    assert outcome["passed"] is True, outcome


@pytest.mark.parametrize(
    ("test", "file", "text", "code"),
    [
        ("temperature", "sys/class/thermal/thermal_zone0/temp", "91000", "hot"),
        ("temperature", "sys/class/thermal/thermal_zone0/temp", "-3000", "cold"),
        ("temperature", "sys/class/thermal/thermal_zone0/temp", "", "no-sensor"),
        ("temperature", "sys/devices/platform/soc/soc:firmware/get_throttled", "50005", "undervoltage"),
        ("emmc", "sys/block/mmcblk0/device/name", "", "emmc-none"),
        ("emmc", "sys/block/mmcblk0/device/life_time", "0x01 0x05", "emmc-worn"),
        ("emmc", "sys/block/mmcblk0/device/pre_eol_info", "0x02", "emmc-worn"),
        ("emmc", "sys/block/mmcblk0/device/life_time", "rubbish", "machine"),
        ("emmc", "proc/mounts", "tmpfs /data tmpfs rw 0 0", "disk"),
        ("nics", "sys/class/net/eth1/carrier", "0", "port-no-link"),
        ("nics", "sys/class/net/eth0/speed", "100", "port-slow"),
        ("nics", "sys/class/net/eth0/type", "772", "ports-count"),
    ],
)
def test_a_bad_board_says_why(talk: Talk, test: str, file: str, text: str, code: str) -> None:
    (talk.machine.root / file).write_text(text + "\n")
    outcome = talk.ask("test", name=test)["ok"]
    assert (outcome["passed"], outcome["code"]) == (False, code)


def test_lost_frames_and_the_bridge_comes_back(talk: Talk) -> None:
    talk.machine.lost = {"eth1": 1}
    outcome = talk.ask("test", name="nics")["ok"]
    assert outcome["code"] == "frames-lost"
    assert "199 of 200 frames from eth1 reached eth0" in outcome["detail"]
    assert talk.machine.bridge == [True, False]


@pytest.mark.parametrize(
    ("presses", "code"),
    [([], "button-silent"), ([True] * 700, "button-stuck"), ([False, *[True] * 700], "button-stuck")],
)
def test_buttons(talk: Talk, presses: list[bool], code: str) -> None:
    talk.machine.presses = presses
    assert talk.ask("test", name="button")["ok"]["code"] == code


def test_leds_shine_one_after_the_other(talk: Talk) -> None:
    lit = []

    def wait(seconds: float) -> None:
        folder = talk.machine.root / "sys/class/leds"
        lit.append([n for n in ("ACT", "PWR") if (folder / n / "brightness").read_text() != "0"])

    talk.bench = Bench(talk.machine, talk.keeping, talk.folder / "data", ("ACT", "PWR"), wait)
    talk.start()
    assert talk.ask("test", name="leds")["ok"]["passed"] is True
    assert lit == [["ACT"], ["PWR"]] * checks.ROUNDS
    assert (talk.machine.root / "sys/class/leds/ACT/trigger").read_text() == "none"


@pytest.mark.parametrize(("power_on", "reset"), [(True, Reset.POWER), (False, Reset.WATCHDOG), (None, Reset.WATCHDOG)])
def test_what_became_of_the_watchdog(talk: Talk, power_on: bool | None, reset: Reset) -> None:
    talk.ask("test", name="watchdog")
    assert talk.answers.hello().reset is Reset.ARMED
    register = talk.machine.root / "proc/device-tree/chosen/bootloader/rsts"
    if power_on is None:
        register.unlink()
    else:
        register.write_bytes(b"\0\0\x10\0" if power_on else b"\0\0\0\x20")
    talk.boot("22" * 16)
    assert talk.answers.hello().reset is reset
    talk.ask("key")
    talk.ask("seal", label=LABEL)
    assert talk.answers.hello().reset is Reset.NONE


def test_a_watchdog_that_is_held_by_another(talk: Talk) -> None:
    talk.machine.watchdog = FactoryError(Code.WATCHDOG_BUSY, "busy")
    assert talk.ask("test", name="watchdog")["ok"]["code"] == "watchdog-busy"
    assert talk.answers.hello().reset is Reset.NONE


def test_parts_of_the_guardians_configuration(talk: Talk) -> None:
    parts = read_parts(talk.machine)
    assert (parts.leds, parts.button) == (("ACT", "PWR"), 360)
    for text in ("", "{", '{"leds": [{}]}', '{"leds": 1}', '{"button": {"key": "x"}}'):
        (talk.machine.root / "etc/vigie/guardian.json").write_text(text)
        assert read_parts(talk.machine).leds == ()


def test_hello_of_a_real_machine_root(talk: Talk) -> None:
    hello = talk.answers.hello()
    assert isinstance(hello, Hello)
    assert (hello.chip, hello.boot) == ("0badcafe", "11" * 16)
    assert Hello.from_dict(json.loads(json.dumps(hello.to_dict()))) == hello


def test_the_guardians_boards_name_leds_and_a_button(repo_root: Path, talk: Talk) -> None:
    """The files that the image installs as /etc/vigie/guardian.json are read here too."""
    found = sorted((repo_root / "firmware/guardian/boards").glob("*.json"))
    assert found
    for file in found:
        (talk.machine.root / "etc/vigie/guardian.json").write_text(file.read_text())
        parts = read_parts(talk.machine)
        assert parts.button, file
        assert parts.leds or "vm" in file.name, file


def test_the_watchdog_is_fed_until_it_is_armed(talk: Talk) -> None:
    """A regular file stands for the device: what is written into it is what the kernel would count as food."""
    device = talk.machine.root / "dev/watchdog"
    board = Board(talk.machine.root)
    board.feed_watchdog()  # there is none: nothing happens
    device.parent.mkdir()
    device.touch()
    for n in range(1, 4):
        board.feed_watchdog()
        assert device.read_bytes() == b"\0" * n
    with pytest.raises(FactoryError, match="Inappropriate ioctl"):
        board.arm_watchdog(10)  # a file has no timeout: said, and fed on
    board.feed_watchdog()
    assert device.read_bytes() == b"\0" * 4


def test_the_real_boards_files(talk: Talk) -> None:
    board = Board(talk.machine.root, button=360)
    assert [(p.name, p.carrier, p.speed) for p in board.ports()] == [("eth0", True, 1000), ("eth1", True, 1000)]
    with pytest.raises(FactoryError, match="no input device has the key 360"):
        board.pressed()
    keys = talk.machine.root / "sys/class/input/event3/device/capabilities/key"
    keys.parent.mkdir(parents=True)
    keys.write_text(f"{1 << (360 - 320):x} 0 0 0 0 0\n")
    with pytest.raises(FactoryError, match="No such file"):
        board.pressed()  # found, and its device is not there
    assert Board(talk.machine.root).pressed() is None
    assert board.power_on() is None
    (talk.machine.root / "proc/device-tree/chosen/bootloader/rsts").write_bytes(b"\0\0\x10\0")
    assert board.power_on() is True
