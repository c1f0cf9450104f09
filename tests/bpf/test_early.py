"""The early loader's exit codes, and what it leaves alone; `tests/netns/test_early.py` says what traffic sees."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.veth import bpffs, ip, new_namespace
from vigie.contract.codes import DeviceClass
from vigie.filter import abi
from vigie.filter.base.image import build_image
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys
from vigie.filter.datapath import DataPath
from vigie.filter.entries import Device

pytestmark = [pytest.mark.bpf, pytest.mark.netns]

OBJECT = Path(__file__).parents[2] / "firmware" / "bpf" / "build" / "filter.bpf.o"
EARLY = OBJECT.with_name("vigie-early")
MAC = bytes.fromhex("020000000010")
Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    with new_namespace(), bpffs(tmp_path / "bpf") as folder:
        yield folder / "vigie"


@pytest.fixture
def start(pins: Path) -> Start:
    """Runs the early loader: `start(image, ...)`, and other options by name."""

    def run(
        *images: Path, ports: str = "va,vb", object: Path = OBJECT, more: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        words = ["--ports", ports, "--object", str(object), "--pin", str(pins), *more]
        words += [word for image in images for word in ("--image", str(image))]
        return subprocess.run([str(EARLY), *words], capture_output=True, text=True, check=False, timeout=30)

    return run


def said(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    told: dict[str, object] = json.loads(done.stdout)["early"]
    return told


def base_image(folder: Path, serial: int) -> Path:
    path = folder / f"{serial}.img"
    path.write_bytes(build_image(Base(serial, 0, *name_keys()), digest=True))
    return path


def pinned_ids(pins: Path) -> dict[str, str]:
    """Map name -> what the kernel calls it: the same number is the same map."""
    return {
        path.name: subprocess.run(
            ["bpftool", "-j", "map", "show", "pinned", str(path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
        for path in (pins / f"v{abi.LAYOUT_VERSION}").iterdir()
    }


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--ports"],
        ["--ports", "va"],
        ["--ports", "va,va"],
        ["--ports", "va,vb", "--bridge", "a-name-longer-than-15"],
        ["--ports", "va,vb", "--nonsense", "1"],
        ["--ports", "va,vb", *(["--image", "x"] * 5)],
        ["--plain"],
        ["--ports", "auto", "--wait", "soon"],
        ["--ports", "auto", "--wait", "-1"],
        ["--ports", "auto", "--wait", "601"],
        ["--ports", "auto", "--kmsg", "yes"],
    ],
)
def test_a_wrong_command_line_is_2_and_touches_nothing(words: list[str]) -> None:
    done = subprocess.run([str(EARLY), *words], capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: vigie-early --ports A,B")


def test_a_port_that_is_not_there_is_1(start: Start, pins: Path) -> None:
    done = start(ports="va,absent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "port absent does not exist" in done.stderr
    assert not pins.exists()


def test_an_object_that_is_not_there_is_1(start: Start, tmp_path: Path) -> None:
    done = start(object=tmp_path / "absent.o")
    assert done.returncode == 1
    assert "absent.o: cannot be opened" in done.stderr
    ip("link", "show", "va")
    assert subprocess.run(["ip", "link", "show", "br0"], capture_output=True, check=False, timeout=10).returncode == 1


def test_every_shared_map_is_pinned_and_no_other(start: Start, pins: Path, tmp_path: Path) -> None:
    done = start(base_image(tmp_path, 7))
    assert done.returncode == 0, done.stderr
    assert {"base": True, "serial": 7, "fresh": True}.items() <= said(done).items()
    assert {path.name for path in (pins / f"v{abi.LAYOUT_VERSION}").iterdir()} == {*abi.MAPS, "image_0"}


def test_a_second_start_keeps_maps_base_and_tables(start: Start, pins: Path, tmp_path: Path) -> None:
    """The daemon's base and policy are newer than what is on the disk: a second start must not take them back."""
    assert start(base_image(tmp_path, 7)).returncode == 0
    with closing(DataPath.open(OBJECT, pins)) as datapath:
        datapath.load_image(abi.KIND_BASE, build_image(Base(9, 0, *name_keys())))
        datapath.settings.set_wan_port(1)
        datapath.tables.device_class.add(Device(MAC, DeviceClass.CAMERA, 0))
        gen, seed = datapath.settings.gen, int(datapath.control["flow_seed"])
    before = pinned_ids(pins)
    done = start(base_image(tmp_path, 8))
    assert done.returncode == 0, done.stderr
    assert {"base": True, "fresh": False}.items() <= said(done).items()
    assert pinned_ids(pins) == before
    with closing(DataPath.open(OBJECT, pins)) as datapath:
        assert (datapath.settings.gen, int(datapath.control["flow_seed"])) == (gen, seed)
        assert int(datapath.control["wan_port"]) == 1
        assert [device.mac for device in datapath.tables.device_class.list()] == [MAC]
        header = datapath.image_header()
        assert header is not None and int(header["serial"]) == 9


def test_a_geo_image_and_a_folder_are_no_base(start: Start, tmp_path: Path) -> None:
    geo = bytearray(base_image(tmp_path, 7).read_bytes())
    kind = abi.IMAGE_HEADER.fields["kind"][1]
    geo[kind] = abi.KIND_GEO
    (tmp_path / "geo.img").write_bytes(geo)
    done = start(tmp_path / "geo.img", tmp_path, tmp_path / "absent.img")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("is left out") == 3
    assert said(done)["base"] is False
    # A base that comes later is taken: the slot is empty.
    done = start(base_image(tmp_path, 8))
    assert (done.returncode, said(done)["fresh"]) == (0, True)


# ---- ports that nobody names


def interface(sysfs: Path, name: str, place: str | None, kind: int = 1, **files: str) -> None:
    """One interface as /sys/class/net shows it; `place` is its device's on the bus, None without one."""
    folder = sysfs / "class/net" / name
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    for file, text in files.items():
        (folder / file).write_text(text)
    if place is not None:
        device = sysfs / "devices" / place
        device.mkdir(parents=True, exist_ok=True)
        (folder / "device").symlink_to(device)


def automatic(sysfs: Path, wait: int = 0) -> list[str]:
    return ["--sysfs", str(sysfs / "class/net"), "--wait", str(wait)]


def master(name: str) -> str:
    """The bridge that an interface belongs to, "" when to none."""
    done = subprocess.run(["ip", "-j", "link", "show", name], capture_output=True, text=True, check=True, timeout=10)
    return str(json.loads(done.stdout)[0].get("master", ""))


def programs(name: str) -> list[str]:
    """Names of the programs at an interface's ingress."""
    done = subprocess.run(
        ["tc", "filter", "show", "dev", name, "ingress"], capture_output=True, text=True, check=False, timeout=10
    )
    return re.findall(r"\b(vigie_\w+)", done.stdout)


def test_ports_are_those_with_hardware_in_the_order_of_the_bus(start: Start, tmp_path: Path) -> None:
    """Bridges, tunnels, guardian's veths, radios and the loopback are none, however they are called."""
    interface(tmp_path, "va", "pci0000:00/0000:01:00.0")
    interface(tmp_path, "vb", "fd580000.ethernet")
    interface(tmp_path, "aaa", None)
    interface(tmp_path, "lo", None, kind=772)
    interface(tmp_path, "wan0", "usb1/1-1", kind=519)
    for radio in ("wireless", "phy80211"):
        interface(tmp_path, f"w{radio[:3]}", f"mmc/{radio}")
        (tmp_path / "class/net" / f"w{radio[:3]}" / radio).mkdir()
    done = start(base_image(tmp_path, 7), ports="auto", more=automatic(tmp_path))
    assert done.returncode == 0, done.stderr
    assert said(done)["ports"] == ["vb", "va"]
    assert (master("va"), master("vb")) == ("br0", "br0")
    again = start(ports="auto", more=automatic(tmp_path))
    assert (again.returncode, said(again)["ports"], said(again)["fresh"]) == (0, ["vb", "va"], False)


def test_one_card_with_two_ports(start: Start, tmp_path: Path) -> None:
    interface(tmp_path, "va", "pci/0000:01:00.0", dev_port="1\n")
    interface(tmp_path, "vb", "pci/0000:01:00.0", dev_port="0\n")
    done = start(ports="auto", more=automatic(tmp_path))
    assert said(done)["ports"] == ["vb", "va"], done.stderr


def test_a_third_port_is_left_alone_and_named(start: Start, tmp_path: Path) -> None:
    ip("link", "add", "vc", "type", "veth", "peer", "name", "third")
    for number, name in enumerate(("va", "vb", "vc")):
        interface(tmp_path, name, f"pci/0000:0{number}:00.0")
    done = start(ports="auto", more=automatic(tmp_path))
    assert done.returncode == 3, done.stderr
    assert "port vc is left alone: va and vb are the first two" in done.stderr
    assert master("vc") == "" and programs("vc") == []


def test_the_second_port_is_waited_for(start: Start, tmp_path: Path) -> None:
    interface(tmp_path, "va", "a")
    later = threading.Timer(0.5, interface, (tmp_path, "vb", "b"))
    later.start()
    done = start(ports="auto", more=automatic(tmp_path, wait=20))
    later.join()
    assert done.returncode == 3, done.stderr
    assert said(done)["ports"] == ["va", "vb"]


@pytest.mark.parametrize(("names", "words"), [((), "none was found"), (("va",), "va found")])
def test_without_two_ports_it_is_4_and_touches_nothing(
    start: Start, pins: Path, tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    (tmp_path / "class/net").mkdir(parents=True)
    for name in names:
        interface(tmp_path, name, name)
    done = start(ports="auto", more=automatic(tmp_path))
    assert (done.returncode, done.stdout) == (4, "")
    assert f"two Ethernet ports are needed, {words} within 0 s" in done.stderr
    assert not pins.exists() and master("va") == ""


def test_who_bridges_plainly_sees_that_ports_are_only_late(start: Start, tmp_path: Path) -> None:
    """vigie-plain.service starts when this program fails, but not for want of ports."""
    report, mark = tmp_path / "early.json", tmp_path / "early.json.waiting"
    more = [*automatic(tmp_path), "--report", str(report)]
    interface(tmp_path, "va", "a")
    assert start(ports="auto", more=more).returncode == 4
    assert mark.exists() and not report.exists()
    assert start(ports="auto", more=more, object=tmp_path / "absent.o").returncode == 4
    interface(tmp_path, "vb", "b")
    assert start(ports="auto", more=more, object=tmp_path / "absent.o").returncode == 1
    assert not mark.exists() and not report.exists(), "a data path that the kernel refuses is another matter"
    assert start(ports="auto", more=more).returncode == 3
    assert report.exists() and not mark.exists()


def test_without_sysfs_it_is_1(start: Start, tmp_path: Path) -> None:
    done = start(ports="auto", more=["--sysfs", str(tmp_path / "absent"), "--wait", "0"])
    assert done.returncode == 1
    assert "absent: cannot be read" in done.stderr


# ---- the fail policy, and who gets what


def test_plain_is_a_bridge_and_nothing_else(start: Start, pins: Path) -> None:
    done = start(more=["--plain"])
    assert (done.returncode, done.stderr) == (0, "")
    assert {"plain": True, "ports": ["va", "vb"]}.items() <= said(done).items()
    assert (master("va"), master("vb")) == ("br0", "br0")
    assert programs("va") == [] and not pins.exists()


def test_plain_takes_a_data_path_off_and_a_start_puts_it_on_again(start: Start, tmp_path: Path) -> None:
    image = base_image(tmp_path, 7)
    assert start(image).returncode == 0
    assert programs("va") and programs("vb")
    assert start(more=["--plain"]).returncode == 0
    assert programs("va") == programs("vb") == []
    assert (master("va"), master("vb")) == ("br0", "br0")
    assert start(image).returncode == 0
    assert programs("va") and programs("vb")


def test_ports_have_no_address_of_their_own(start: Start) -> None:
    """A box has one address, the bridge's: what comes to a port's would pass by the data path's rules for its own."""
    assert start().returncode == 3
    for name in ("va", "vb"):
        done = subprocess.run(
            ["ip", "-6", "-j", "addr", "show", name], capture_output=True, text=True, check=True, timeout=10
        )
        assert [a for link in json.loads(done.stdout) for a in link.get("addr_info", [])] == [], done.stdout


def test_the_report_is_the_line(start: Start, tmp_path: Path) -> None:
    report = tmp_path / "early.json"
    before = time.monotonic()
    done = start(base_image(tmp_path, 7), more=["--report", str(report)])
    assert report.read_text() == done.stdout
    assert before <= float(str(said(done)["at"])) <= time.monotonic()
    assert list(tmp_path.glob("early.json*")) == [report]


def test_a_report_that_cannot_be_written_stops_nothing(start: Start, tmp_path: Path) -> None:
    done = start(base_image(tmp_path, 7), more=["--report", str(tmp_path / "absent" / "early.json")])
    assert done.returncode == 0
    assert "early.json: cannot be written" in done.stderr


def test_an_unknown_owner_is_1(start: Start) -> None:
    done = start(more=["--owner", "no-such-user"])
    assert done.returncode == 1
    assert "there is no user no-such-user" in done.stderr


TAKE_OVER = """
import sys
from contextlib import closing
from pathlib import Path
from vigie.filter import abi
from vigie.filter.base.image import build_image
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys
from vigie.filter.datapath import DataPath

with closing(DataPath.open(Path(sys.argv[1]), Path(sys.argv[2]))) as datapath:
    datapath.load_image(abi.KIND_BASE, build_image(Base(9, 0, *name_keys())))
    datapath.attach("va", "vb", "br0")
    print(datapath.attached("va", "vb", "br0"), int(datapath.image_header()["serial"]))
"""


def test_the_owner_takes_over_with_four_capabilities_and_nothing_of_root() -> None:
    """As vigie-filter.service runs: a user of its own, in a BPF file system that systemd mounts closed."""
    allowed = "-all,+bpf,+perfmon,+net_admin,+net_raw"
    with tempfile.TemporaryDirectory() as name, new_namespace(), bpffs(Path(name) / "bpf") as mounted:
        folder, pins = Path(name), mounted / "vigie"
        folder.chmod(0o755)  # everybody passes, as through /sys/fs
        mounted.chmod(0o700)
        program = Path(shutil.copy(OBJECT, folder))
        words = [str(EARLY), "--ports", "va,vb", "--object", str(OBJECT), "--pin", str(pins), "--owner", "nobody"]
        words += ["--image", str(base_image(folder, 7))]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        assert {path.owner() for path in (pins, *pins.rglob("*"))} == {"nobody"}
        assert stat.S_IMODE(mounted.stat().st_mode) == 0o711
        taken = subprocess.run(
            [
                "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs",
                f"--inh-caps={allowed}", f"--ambient-caps={allowed}", f"--bounding-set={allowed}",
                sys.executable, "-c", TAKE_OVER, str(program), str(pins),
            ],
            capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert taken.stdout.split() == ["True", "9"], taken.stderr
        again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        assert (again.returncode, said(again)["fresh"]) == (0, False), again.stderr
