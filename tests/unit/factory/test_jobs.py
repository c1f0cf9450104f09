"""Jobs, steps, the label, the configuration, the commands around the station."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture
from rich.console import Console

from tests.support.simboard import Bench, make_image
from vigie.contract.bench import Code, Hello, Outcome, State, Test
from vigie.contract.identity import claim_id
from vigie_provisioning.authority.checks import spki
from vigie_provisioning.authority.profiles import new_key
from vigie_provisioning.errors import BusyError, ConfigError, ProvisioningError, StateError, StoreError
from vigie_provisioning.factory import board, cli, label, stationcli, stationconfig, words
from vigie_provisioning.factory.board import Park
from vigie_provisioning.factory.disks import Disks
from vigie_provisioning.factory.image import Image, check
from vigie_provisioning.factory.jobs import Job, Parked
from vigie_provisioning.factory.jobstore import JobStore
from vigie_provisioning.factory.screen import Terminal
from vigie_provisioning.factory.steps import NEXT, ORDER, TABLE, Action, Event, Step, after, reached
from vigie_provisioning.i18n import use
from vigie_provisioning.register import Entry

PUBLIC = spki(new_key().public_key())
CLAIM = claim_id(b"1234567")
JOB = Job("0badcafe", "VG-0badcafe", CLAIM, "vigie-cm4", "L1", "ab" * 32)


# -- steps


def test_the_table_leads_from_new_to_done_and_nowhere_back() -> None:
    assert set(NEXT) == set(Step)
    assert all(reached(TABLE[step, event], step) or event is Event.FLASHED for step, event in TABLE)
    forward = {step: [to for (at, _event), to in TABLE.items() if at is step and to is not step] for step in Step}
    step, seen = Step.NEW, [Step.NEW]
    while step is not Step.DONE:
        step = max(forward[step], key=ORDER.index)
        seen.append(step)
    assert seen == list(ORDER)
    assert not [to for (at, _event), to in TABLE.items() if at is Step.DONE]
    # From the key on, nothing makes a board forget it.
    for (at, _event), to in TABLE.items():
        assert not (reached(at, Step.KEYED) and not reached(to, Step.KEYED))


def test_what_may_not_happen() -> None:
    for step in Step:
        for event in Event:
            if (step, event) not in TABLE:
                with pytest.raises(StateError):
                    after(step, event)


def test_tests_are_all_wanted_and_a_new_image_forgets_them() -> None:
    job = JOB.on(Event.FLASHED, 1)
    for test in Test:
        assert job.missing()[0] is test
        job = job.with_result(test, Outcome(True), 2)
    assert job.missing() == []
    assert job.with_result(Test.NICS, Outcome(False, "hot"), 3).missing() == [Test.NICS]
    parked = job.with_result(Test.LEDS, Outcome(False, "leds-none"), 3).park("leds-none", "x", 4)
    assert parked.action is Action.NONE
    assert parked.unpark(5).missing() == [Test.LEDS]


# -- what a hello means


def hello(**changes: Any) -> Hello:
    values: dict[str, Any] = {
        "boot": "ab" * 16,
        "chip": "0badcafe",
        "model": "vigie-cm4",
        "version": "1.0",
        "variant": "cm4",
        "state": State.BLANK,
    }
    return Hello(**(values | changes))


def entry(serial: str = "VG-0badcafe") -> Entry:
    return Entry(3, b"", serial, CLAIM, PUBLIC, "cd" * 32, "L0", "vigie-cm4", "alice", 7)


BOX = entry().box
KEYED = Job("0badcafe", "VG-0badcafe", CLAIM, "vigie-cm4", "L1", "ab" * 32, step=Step.KEYED, public=PUBLIC)


@pytest.mark.parametrize(
    ("job", "said", "word"),
    [
        (JOB, hello(model="other"), "wrong-image"),
        (dataclasses.replace(JOB, software="2.0"), hello(version="1.0"), "wrong-image"),
        (KEYED, hello(), "key-lost"),
        (KEYED, hello(state=State.KEYED, box="vg-" + "a" * 16), "key-changed"),
        (JOB, hello(state=State.IN_SERVICE, box=BOX, serial="VG-other"), "sealed-unknown"),
        (JOB, hello(state=State.SEALED, box="vg-" + "a" * 16, serial="VG-1"), "sealed-unknown"),
    ],
)
def test_hellos_that_contradict_the_job(job: Job, said: Hello, word: str) -> None:
    with pytest.raises(Park) as caught:
        board.judge(job, said, lambda box: entry() if box == BOX else None, 1)
    assert caught.value.word == word


def test_hellos_that_do_not() -> None:
    def nothing(box: str) -> Entry | None:
        return None

    assert board.judge(JOB, hello(), nothing, 1) is JOB
    assert board.judge(KEYED, hello(state=State.KEYED, box=BOX), nothing, 1) is KEYED
    found = board.judge(JOB, hello(state=State.IN_SERVICE, box=BOX, serial="VG-0badcafe"), lambda box: entry(), 1)
    assert (found.step, found.public, found.lot, found.entry) == (Step.SEALED, PUBLIC, "L0", 3)


# -- on disk


def test_a_job_comes_back_whole(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = JOB.on(Event.FLASHED, 1).with_result(Test.NICS, Outcome(True, figures={"eth0>eth1": 200}), 2)
    job = job.park("hot", "91 °C", 3)
    store.write(job)
    assert store.read("0badcafe") == job
    assert store.all() == [job]
    assert store.read("00000000") is None
    for n in range(200):
        job = job.unpark(n)
    store.write(job)
    assert store.read("0badcafe") == job


@pytest.mark.parametrize("text", ["", "{}", '{"v":1}', '{"v":2}', "[]"])
def test_a_damaged_job_is_named(tmp_path: Path, text: str) -> None:
    store = JobStore(tmp_path)
    (tmp_path / "jobs/0badcafe.json").write_text(text)
    with pytest.raises(StoreError, match=r"0badcafe\.json.*begin this board again"):
        store.read("0badcafe")


def test_one_station_at_a_time(tmp_path: Path) -> None:
    with JobStore(tmp_path).claim("0badcafe"):
        with pytest.raises(BusyError, match="another station"), JobStore(tmp_path).claim("0badcafe"):
            raise AssertionError
        with JobStore(tmp_path).claim("00000001"):
            pass
    with JobStore(tmp_path).claim("0badcafe"):
        pass


def test_the_log_is_bounded(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for _ in range(30):
        store.log("0badcafe", ["x" * 400] * 500)
    assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) < 3 << 20
    store.log("0badcafe", ["last words"])
    assert store.last_words("0badcafe").endswith("last words")


# -- words


def test_every_reason_has_a_text_in_both_languages() -> None:
    french = {code: words.why(Parked(code.value, "", 0)) for code in Code if code is not Code.BUSY}
    assert not [code for code, text in french.items() if "ne connaît pas" in text and code is not Code.MALFORMED]
    use("en")
    try:
        english = {code: words.why(Parked(code.value, "", 0)) for code in french}
    finally:
        use("fr")
    assert all(french[code] != english[code] for code in french)
    assert "later-word" in words.why(Parked("later-word", "", 0))


# -- labels

LABEL = label.Label("VG-0badcafe", CLAIM, "http://vigie.local/", "vigie.mondepartement.fr", 1_700_000_000)


def test_the_same_label_is_the_same_bytes() -> None:
    assert label.pdf(LABEL) == label.pdf(LABEL)
    assert label.png(LABEL) == label.png(LABEL)


def test_the_pdf_says_what_it_must_on_one_page_of_the_labels_size(tmp_path: Path) -> None:
    (tmp_path / "label.pdf").write_bytes(label.pdf(LABEL))
    argv = ["pdftotext", "-layout", str(tmp_path / "label.pdf"), "-"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    for word in (LABEL.serial, LABEL.claim_id, LABEL.page, LABEL.department, "Numéro de série", "Page du boîtier"):
        assert word in text
    argv = ["pdfinfo", str(tmp_path / "label.pdf")]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    size = re.search(r"Page size: +([\d.]+) x ([\d.]+)", said)
    assert size is not None
    assert [round(float(side) * 25.4 / 72, 1) for side in size.groups()] == [label.WIDTH_MM, label.HEIGHT_MM]
    assert re.search(r"Pages: +1\n", said)


def test_the_picture_holds_the_code_and_white_around_it() -> None:
    picture = Picture.open(io.BytesIO(label.png(LABEL)))
    assert picture.size == (round(62 * 300 / 25.4), round(29 * 300 / 25.4))
    cells = label.modules(LABEL.page)
    left, top, side, _cells = label.place(LABEL.page)
    scale = 300 / 25.4
    dots = label.dots_of(side)
    assert dots >= 8  # 0.7 mm: read by any telephone
    for y, row in enumerate(cells):
        for x, black in enumerate(row):
            at = (round(left * scale) + x * dots + dots // 2, round(top * scale) + y * dots + dots // 2)
            assert (picture.getpixel(at) == 0) is black
    quiet = (round(left * scale) - 4 * dots + 1, round(top * scale), round(left * scale), picture.size[1])
    assert picture.crop(quiet).getextrema() == (255, 255)


def test_the_code_holds_no_secret() -> None:
    """Only the page's address decides it."""
    other = label.Label("VG-1", claim_id(b"7654321"), LABEL.page, "x.fr", 5)
    assert label.modules(other.page) == label.modules(LABEL.page)
    assert LABEL.claim_id not in LABEL.page


def test_long_words_stay_left_of_the_code() -> None:
    long = label.Label("VG-" + "W" * 20, CLAIM, "http://vigie.local/", "W" * 40, 0)
    picture = Picture.open(io.BytesIO(label.png(long)))
    left, _top, side, _cells = label.place(long.page)
    scale = 300 / 25.4
    quiet = (round((left - 4 * side) * scale) + 2, 0, round(left * scale), picture.size[1])
    assert picture.crop(quiet).getextrema() == (255, 255)


# -- configuration and commands


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "station.toml"
    file.write_text(
        f'department = "vigie.lab"\nimage = "i.img"\nport = "/dev/null"\nregister = "{tmp_path}/r"\n'
        f'operator_key = "k"\nstate = "{tmp_path}/state"\nrpiboot = []\n'
    )
    return file


def test_the_configuration(config: Path) -> None:
    found = stationconfig.load(config, {"lot": "L9", "usb": None})
    assert (found.department, found.lot, found.usb, found.rpiboot) == ("vigie.lab", "L9", "", ())


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ("prot = 1", "`prot` is not known"),
        ("boot_s = 0", "seconds are expected"),
        ('boot_s = "x"', "wrong kind"),
        ("lot = 3", "wrong kind"),
        ('print = "lp"', "wrong kind"),
        ('model = "CM 4"', "model"),
        ('serial_prefix = "é"', "makes no serial numbers"),
        ('page = "https://x/"', "an address such as"),
        ("= 3", "not TOML"),
    ],
)
def test_configurations_that_are_wrong(config: Path, more: str, match: str) -> None:
    config.write_text(config.read_text() + more + "\n")
    with pytest.raises(ConfigError, match=match):
        stationconfig.load(config, {})


def test_nothing_is_missing_silently(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="department, image, port"):
        stationconfig.load(None, {"state": tmp_path})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], config: Path) -> Any:
    def go(command: str, *argv: str, code: int = 0) -> Any:
        assert cli.main(["--json", command, "--config", str(config), *argv]) == code
        captured = capsys.readouterr()
        return json.loads(captured.out) if code == 0 else captured.err

    return go


def test_parked_boards_are_listed_and_taken_up_again(tmp_path: Path, run: Any) -> None:
    store = JobStore(tmp_path / "state")
    assert run("jobs") == []
    store.write(JOB.on(Event.FLASHED, 1).park("hot", "91 °C", 2))
    assert run("jobs") == [{"chip": "0badcafe", "serial": "VG-0badcafe", "box": "", "step": "flashed", "parked": "hot"}]
    assert run("unpark", "VG-0badcafe") == {"serial": "VG-0badcafe", "step": "flashed"}
    assert "is not parked" in run("unpark", "0badcafe", code=1)
    store.write(KEYED.park("silent", "", 3))
    run("unpark", "0badcafe", "--write")
    job = store.read("0badcafe")
    assert job is not None
    assert (job.step, job.action, job.public) == (Step.KEYED, Action.FLASH, PUBLIC)
    assert job.on(Event.FLASHED, 4, rewrite=False).action is Action.REGISTER
    store.write(KEYED.on(Event.REGISTERED, 3, entry=1).park("silent", "", 4))
    assert "comes over the air" in run("unpark", "0badcafe", "--write", code=1)
    store.write(JOB.on(Event.FLASHED, 1))
    assert "no board of this station" in run("unpark", "VG-1", code=1)
    assert "not registered yet" in run("label", "0badcafe", code=1)


def test_a_board_begins_again_with_another_number(tmp_path: Path, run: Any) -> None:
    store = JobStore(tmp_path / "state")
    store.write(KEYED)
    assert run("again", "0badcafe") == {"was": "VG-0badcafe", "serial": "VG-0badcafe-2"}
    assert run("again", "0badcafe") == {"was": "VG-0badcafe-2", "serial": "VG-0badcafe-3"}
    job = store.read("0badcafe")
    assert job is not None
    assert (job.step, job.public, job.erase) == (Step.NEW, b"", True)
    assert job.claim_id != KEYED.claim_id


def test_a_label_again(tmp_path: Path, run: Any) -> None:
    store = JobStore(tmp_path / "state")
    store.write(KEYED.on(Event.REGISTERED, 1_700_000_000, entry=1))
    made = run("label", "VG-0badcafe")
    assert Path(made["pdf"]).read_bytes().startswith(b"%PDF-")
    before = Path(made["png"]).read_bytes()
    assert Path(run("label", "VG-0badcafe")["png"]).read_bytes() == before


def test_a_full_disk_of_the_station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(tmp_path)
    store.write(JOB)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ProvisioningError, match="No space left"):
        store.write(KEYED)
    monkeypatch.undo()
    assert store.read("0badcafe") == JOB


# -- dry run


@pytest.fixture
def station(tmp_path: Path) -> tuple[stationconfig.StationConfig, Bench, Image]:
    path = tmp_path / "vigie-cm4-1.2.3.img"
    make_image(path)
    config = stationconfig.StationConfig(
        "vigie.lab", path, "/dev/null", tmp_path / "register", tmp_path / "key", tmp_path / "state"
    )
    return config, Bench(tmp_path / "machine"), check(path, lambda done, of: None)


def test_a_dry_run_says_and_does_nothing(
    tmp_path: Path, station: tuple[stationconfig.StationConfig, Bench, Image]
) -> None:
    config, bench, image = station
    disks = Disks(bench.sys, bench.dev, bench.proc)
    assert any("aucune carte en USB" in line for line in stationcli.plan(config, image, disks))
    emmc = tmp_path / "emmc"
    emmc.write_bytes(bytes(512))
    bench.plug(emmc, "0badcafe", "1-2", "sdx")
    bench.plug(emmc, "0badcaff", "1-3", "sdy", idProduct="2711", vendor="x")
    said = stationcli.plan(config, image, disks)
    assert any("sdx" in line and "numéro VG-0badcafe" in line for line in said)
    assert any("1-3" in line and "rpiboot" in line for line in said)
    assert any("il sera commencé" in line for line in said)
    assert emmc.read_bytes() == bytes(512)
    assert not config.state.exists()
    assert not config.register.exists()
    bench.mounts(["8:368 /media/x"])
    with pytest.raises(ProvisioningError, match="mounted at /media/x"):
        stationcli.plan(config, image, disks)


class Once:
    """A station whose boards are decided."""

    def __init__(self, *results: Job | Exception | type[BaseException]) -> None:
        self.results = list(results)

    def one(self) -> Job:
        result = self.results.pop(0)
        if isinstance(result, Job):
            return result
        raise result


def test_the_loop_around_the_boards() -> None:
    console = Console(file=io.StringIO(), width=200)
    screen = Terminal(console)
    done = dataclasses.replace(JOB, step=Step.DONE)
    for results, once, code in (
        ([done], True, 0),
        ([JOB.park("hot", "", 1)], True, 1),
        ([ConfigError("x")], True, 2),
        ([done, done, KeyboardInterrupt], False, 130),
    ):
        station: Any = Once(*results)
        assert stationcli.work(station, screen, once=once) == code
        assert station.results == []


def test_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    screen = Terminal(Console(file=out, width=200))
    words_ = iter(["peut-être", "oui", "n"])
    monkeypatch.setattr("builtins.input", lambda *prompt: next(words_))
    assert screen.ask("Attendre [encore] ?") is True
    assert screen.ask("Attendre ?") is False
    for say in (screen.say, screen.do, screen.good, screen.bad):
        say("[texte] entre crochets")
    assert out.getvalue().count("[texte] entre crochets") == 4

    def end(*prompt: object) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    assert screen.ask("Attendre ?") is False
    for in_bytes in (True, False):
        with screen.bar(in_bytes=in_bytes) as show:
            show("[écriture]", 1, 2)


def test_a_machine_reports_on_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """The real commands and files of the machine that runs the tests."""
    from vigie.cli.main import main as vigie

    assert vigie(["--json", "factory", "report"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert said["uptime_s"] > 0
    assert len(said["boot"]) == 32
