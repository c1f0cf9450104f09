"""The early loader's exit codes, and what it leaves alone; `tests/netns/test_early.py` says what traffic sees."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
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

    def run(*images: Path, ports: str = "va,vb", object: Path = OBJECT) -> subprocess.CompletedProcess[str]:
        words = ["--ports", ports, "--object", str(object), "--pin", str(pins)]
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
    assert {path.name for path in (pins / f"v{abi.LAYOUT_VERSION}").iterdir()} == set(abi.MAPS)


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
