"""The Python plumbing against the kernel: maps, ring buffer, images, tables, take-over.

Uses `c/plumbing.bpf.c`, which has the maps of the data path and programs that do next to nothing; the last tests use
the real object.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from tests.support import veth
from vigie.contract.codes import Action, DeviceClass, EventKind, InboundMode, Reason, Verdict
from vigie.errors import BpfError, ImageError, LayoutError
from vigie.filter import abi, events
from vigie.filter.datapath import DataPath, layout_dir
from vigie.filter.entries import (
    ClassPolicy,
    Device,
    Dynamic,
    EssentialPort,
    ExceptionEntry,
    InboundAllow,
    LocalName,
    Quarantine,
)
from vigie.filter.flowcache import Flows, key_bytes
from vigie.filter.libbpf import BpfObject, Map, possible_cpus, skb_context
from vigie.filter.migrate import Legacy, Migration
from vigie.filter.ring import RingReader
from vigie.filter.tables import TableFullError

pytestmark = pytest.mark.bpf

ROOT = Path(__file__).parents[2]
REAL = ROOT / "firmware" / "bpf" / "build" / "filter.bpf.o"
LOOPBACK = skb_context(1)
CMD_NONE, CMD_PAGE, CMD_DISCARD, CMD_BLOCK = range(4)


def frame(command: int = CMD_NONE, mark: int = 0) -> bytes:
    return bytes.fromhex("020000000002 020000000001 0800") + bytes([command, mark]) + bytes(48)


@pytest.fixture(scope="module")
def plumbing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object of c/plumbing.bpf.c."""
    clang = shutil.which("clang") or shutil.which("clang-14")
    assert clang, "no clang: make setup installs it"
    target = tmp_path_factory.mktemp("plumbing") / "plumbing.bpf.o"
    multiarch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    built = subprocess.run(
        [clang, "-O2", "-g", "-target", "bpf", "-I", str(ROOT / "firmware" / "bpf"), "-I", f"/usr/include/{multiarch}",
         "-c", str(Path(__file__).parent / "c" / "plumbing.bpf.c"), "-o", str(target)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return target


@pytest.fixture
def datapath(plumbing: Path) -> Iterator[DataPath]:
    sizes = {"exceptions": 8, "quarantine": 8, "dynamic": 1024}
    instance = DataPath.open(plumbing, sizes=sizes)
    yield instance
    instance.close()


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A bpffs of the test's own."""
    with veth.bpffs(tmp_path / "bpf") as folder:
        yield folder


def image(serial: int, pages: int = 16, **fields: object) -> bytes:
    memory = bytearray(pages * abi.PAGE_BYTES)
    values = {"magic": abi.IMAGE_MAGIC, "version": 1, "pages": pages, "serial": serial, "name_key": 3, **fields}
    memory[: abi.IMAGE_HEADER.itemsize] = abi.pack(abi.IMAGE_HEADER, **values)
    struct.pack_into("=Q", memory, (pages - 1) * abi.PAGE_BYTES, serial)
    return bytes(memory)


def epoch(datapath: DataPath) -> int:
    return abi.gen_parts(datapath.settings.gen)[0]


# -- libbpf


def test_verifier_log_is_in_the_error(tmp_path: Path) -> None:
    clang = shutil.which("clang") or shutil.which("clang-14")
    assert clang
    source = tmp_path / "bad.bpf.c"
    source.write_text(
        "#include <linux/bpf.h>\n"
        '__attribute__((section("license"), used)) char l[] = "GPL";\n'
        '__attribute__((section("tc"), used)) int bad(struct __sk_buff *s)\n'
        "{ return *(int *)(long)s->data; }\n"
    )
    multiarch = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    target = tmp_path / "bad.bpf.o"
    subprocess.run([clang, "-O2", "-g", "-target", "bpf", "-I", f"/usr/include/{multiarch}", "-c", str(source), "-o",
                    str(target)], check=True, timeout=60)  # fmt: skip
    with pytest.raises(BpfError, match=r"invalid mem access|invalid access") as caught:
        BpfObject.open(target).load()
    assert caught.value.errno in (13, 22)


def test_not_an_object(tmp_path: Path) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(b"not ELF")
    with pytest.raises(BpfError, match="not a BPF object"):
        BpfObject.open(path)
    with pytest.raises(BpfError, match="make -C firmware/bpf"):
        BpfObject.open(tmp_path / "absent.o")


def test_map_calls(datapath: DataPath) -> None:
    table = datapath.maps["quarantine"]
    key, value = abi.pack(abi.MAC_KEY, mac=b"\x02\0\0\0\0\x01"), abi.pack(abi.UNTIL_VALUE, until_s=5)
    assert table.lookup(key) is None
    table.update(key, value)
    assert table.lookup(key) == value
    assert list(table.items()) == [(key, value)]
    assert table.delete(key) and not table.delete(key)
    with pytest.raises(BpfError, match="quarantine: a key has 8 bytes, not 3"):
        table.lookup(b"abc")
    with pytest.raises(BpfError, match="ENOENT"):
        table.update(key, value, flags=2)


def test_batches_cross_their_own_size(datapath: DataPath) -> None:
    table = datapath.maps["macs"]
    keys = [i.to_bytes(8, "little") for i in range(1, 3001)]
    table.update_batch(b"".join(keys), b"".join(i.to_bytes(8, "little") for i in range(1, 3001)))
    items = dict(table.items())
    assert len(items) > 2000, "an LRU map keeps nearly all of them"
    assert all(int.from_bytes(v, "little") == int.from_bytes(k, "little") for k, v in items.items())
    assert table.clear() == len(items)
    assert list(table.items()) == []


def test_test_run_gives_frame_context_and_code_back(datapath: DataPath) -> None:
    program = datapath.programs["vigie_ingress"]
    run = program.test_run(frame(), skb_context(1, mark=7))
    assert (run.retval, run.data_out) == (0, frame())
    assert struct.unpack_from("=I", run.ctx_out, 8) == (7,)
    with pytest.raises(BpfError, match="3 bytes: EINVAL"):
        program.test_run(b"abc")
    assert program.test_run(frame(), LOOPBACK, want_data=False).data_out == b""


def test_statistics(datapath: DataPath) -> None:
    stats = datapath.programs["vigie_ingress"].stats()
    assert stats.id > 0 and stats.verified_insns > 50 and len(stats.tag) == 16


# -- ring buffer


def test_records_in_order_over_many_turns_of_the_ring(datapath: DataPath) -> None:
    ring, program = datapath.events(), datapath.programs["vigie_ingress"]
    assert ring.read() == [] and not ring.wait(0)
    seen = 0
    for turn in range(300):
        for n in range(100):
            program.test_run(frame(mark=n), LOOPBACK, want_data=False)
        assert ring.wait(0)
        got = [events.decode(r) for r in ring.read(60)] + [events.decode(r) for r in ring.read()]
        assert [e.payload for e in got] == [bytes([0, n]) for n in range(100)], f"turn {turn}"
        assert {e.kind for e in got} == {EventKind.BLOCKED}
        seen += len(got)
    assert seen * 168 > ring.size, "the ring was passed at least once"
    assert ring.pending() == 0


def test_discarded_records_are_skipped(datapath: DataPath) -> None:
    ring = datapath.events()
    datapath.programs["vigie_ingress"].test_run(frame(CMD_DISCARD), LOOPBACK)
    assert len(ring.read()) == 1
    assert (ring.discarded, ring.pending()) == (1, 0)


def test_full_ring_loses_the_newest_and_goes_on(datapath: DataPath) -> None:
    ring, program = datapath.events(), datapath.programs["vigie_ingress"]
    room = ring.size // 168
    program.test_run(frame(), LOOPBACK, repeat=room + 500, want_data=False)
    lost = datapath.counters()[Reason.EVENT_FULL][0]
    assert len(ring.read(10**6)) + lost == room + 500 and lost > 0
    program.test_run(frame(mark=9), LOOPBACK)
    assert [events.decode(r).payload[1] for r in ring.read()] == [9]


def test_a_reader_that_comes_later_goes_on_where_the_first_stopped(datapath: DataPath) -> None:
    program = datapath.programs["vigie_ingress"]
    for n in range(4):
        program.test_run(frame(mark=n), LOOPBACK)
    assert [r[97] for r in datapath.events().read(2)] == [0, 1]
    assert [r[97] for r in datapath.events().read()] == [2, 3]


def test_only_ring_buffers_are_read(datapath: DataPath) -> None:
    with pytest.raises(BpfError, match="not a ring buffer"):
        RingReader(datapath.maps["control"])


# -- records and counters


def test_counters_and_decision(datapath: DataPath) -> None:
    program = datapath.programs["vigie_ingress"]
    program.test_run(frame(CMD_BLOCK), LOOPBACK, repeat=10)
    assert datapath.counters()[Reason.TOXIC_ADDRESS] == (10, 640)
    assert len(datapath.last_decision()) == possible_cpus()
    assert Reason.TOXIC_ADDRESS in datapath.last_decision()["reason"].tolist()
    datapath.clear_decisions()
    assert not datapath.last_decision()["reason"].any()


def test_control_is_what_the_program_reads(datapath: DataPath) -> None:
    datapath.settings.set_event_rates({EventKind.BLOCKED: 0})
    datapath.programs["vigie_ingress"].test_run(frame(), LOOPBACK)
    assert datapath.events().read() == []
    assert datapath.settings.gen in datapath.last_decision()["gen"].tolist()


# -- images


def test_image_goes_into_force_and_the_old_one_goes(datapath: DataPath) -> None:
    assert datapath.image_header() is None
    for serial in range(1, 6):
        before = epoch(datapath)
        load = datapath.load_image(abi.KIND_BASE, image(serial))
        header = datapath.image_header()
        assert header is not None
        assert (int(header["serial"]), load.serial, load.slot) == (serial, serial, serial & 1)
        assert load.name_key_changed == (serial == 1)
        assert epoch(datapath) == before + 1
        slots = [datapath.maps["images"].lookup(i) is not None for i in range(4)]
        assert slots == [not serial & 1, bool(serial & 1), False, False]


def test_geo_and_base_have_slots_of_their_own(datapath: DataPath) -> None:
    datapath.load_image(abi.KIND_BASE, image(1))
    datapath.load_image(abi.KIND_GEO, image(2, kind=abi.KIND_GEO))
    base, geo = datapath.image_header(abi.KIND_BASE), datapath.image_header(abi.KIND_GEO)
    assert base is not None and geo is not None
    assert (int(base["serial"]), int(geo["serial"])) == (1, 2)


def test_bad_image_leaves_the_running_one(datapath: DataPath) -> None:
    datapath.load_image(abi.KIND_BASE, image(1))
    before = datapath.settings.gen
    bad = [image(2, magic=5), image(2, kind=1), image(2)[: -abi.PAGE_BYTES], image(2)[:-1], b""]
    for data in bad:
        with pytest.raises(ImageError):
            datapath.load_image(abi.KIND_BASE, data)
    assert datapath.settings.gen == before
    header = datapath.image_header()
    assert header is not None and int(header["serial"]) == 1


def test_a_writer_that_fails_leaves_the_running_one(datapath: DataPath) -> None:
    class Broken:
        nbytes = 4 * abi.PAGE_BYTES

        def write(self, out: memoryview) -> None:
            out[0] = 1
            raise ImageError("out of entries")

    datapath.load_image(abi.KIND_BASE, image(1))
    with pytest.raises(ImageError, match="out of entries"):
        datapath.load_image(abi.KIND_BASE, Broken())
    header = datapath.image_header()
    assert header is not None and int(header["serial"]) == 1


def test_a_hundred_swaps_under_load_never_show_a_mixed_or_empty_base(datapath: DataPath) -> None:
    datapath.settings.set_event_rates({EventKind.BLOCKED: 0})
    datapath.load_image(abi.KIND_BASE, image(1))
    stop = threading.Event()
    runs = [0]

    def packets() -> None:
        while not stop.is_set():
            datapath.programs["vigie_ingress"].test_run(frame(CMD_PAGE), LOOPBACK, repeat=500, want_data=False)
            runs[0] += 500

    thread = threading.Thread(target=packets)
    thread.start()
    try:
        for serial in range(2, 102):
            datapath.load_image(abi.KIND_BASE, image(serial, pages=16 + serial % 7))
    finally:
        stop.set()
        thread.join()
    counters = datapath.counters()
    assert counters[Reason.DEFAULT][0] == runs[0] > 10_000, counters
    assert Reason.NO_BASE not in counters


# -- tables

DEVICE = bytes.fromhex("020000000001")


def test_features_follow_the_tables(datapath: DataPath) -> None:
    tables, settings = datapath.tables, datapath.settings
    assert settings.features == 0
    for table, entry, bit in (
        (tables.exceptions, ExceptionEntry("192.0.2.0/24", Action.ALLOW), abi.F_EXCEPTIONS),
        (tables.local_names, LocalName(5, Action.BLOCK), abi.F_LOCAL_NAMES),
        (tables.quarantine, Quarantine(DEVICE), abi.F_QUARANTINE),
        (tables.dynamic, Dynamic("192.0.2.1", DEVICE), abi.F_DYNAMIC),
        (tables.inbound_allow, InboundAllow(DEVICE, 6, 443), abi.F_INBOUND_ALLOW),
        (tables.class_policy, ClassPolicy(DeviceClass.CAMERA, Action.BLOCK), abi.F_CLASS_POLICY),
        (tables.essential_ports, EssentialPort(17, 53, 1), abi.F_ESSENTIAL),
        (tables.device_class, Device(DEVICE, DeviceClass.PHONE, 1), abi.F_ESSENTIAL),
    ):
        before = epoch(datapath)
        table.add(entry)  # type: ignore[attr-defined]
        assert settings.features == bit, entry
        assert epoch(datapath) == before + 1
        assert table.list() == [entry]  # type: ignore[attr-defined]
        assert table.remove(entry) == 1  # type: ignore[attr-defined]
        assert settings.features == 0
        assert epoch(datapath) == before + 2
        assert table.remove(entry) == 0 and epoch(datapath) == before + 2  # type: ignore[attr-defined]
    tables.device_class.add(Device(DEVICE, DeviceClass.PRINTER))
    assert settings.features == 0, "a class alone keeps nothing in isolation"


def test_batch_of_tables_is_one_epoch(datapath: DataPath) -> None:
    before = epoch(datapath)
    with datapath.batch():
        datapath.tables.quarantine.add(Quarantine(DEVICE))
        datapath.tables.exceptions.add_all(ExceptionEntry(f"192.0.2.{i}", Action.ALLOW) for i in range(4))
        datapath.settings.set_inbound_mode(InboundMode.REFUSE)
    assert epoch(datapath) == before + 1
    assert len(datapath.tables.exceptions) == 4


def test_full_table_says_so_and_adds_nothing(datapath: DataPath) -> None:
    table = datapath.tables.exceptions
    table.add_all(ExceptionEntry(f"192.0.2.{i}", Action.ALLOW) for i in range(6))
    with pytest.raises(TableFullError, match="exceptions is full: 6 of 8 entries, 3 more do not fit; remove"):
        table.add_all(ExceptionEntry(f"198.51.100.{i}", Action.ALLOW) for i in range(3))
    assert len(table.list()) == 6
    table.add(ExceptionEntry("192.0.2.1", Action.BLOCK))  # the same key: replaced
    assert len(table) == 6
    with pytest.raises(TableFullError, match="holds 8 entries, 9"):
        table.replace(ExceptionEntry(f"192.0.2.{i}", Action.ALLOW) for i in range(9))


def test_replace_touches_what_differs(datapath: DataPath) -> None:
    table = datapath.tables.exceptions
    old = [ExceptionEntry(f"192.0.2.{i}", Action.ALLOW) for i in range(6)]
    table.replace(old)
    before = epoch(datapath)
    table.replace(old)
    assert epoch(datapath) == before
    new = [*old[2:], ExceptionEntry("2001:db8::/32", Action.BLOCK, DEVICE, 443, 6, 99)]
    table.replace(new)
    assert epoch(datapath) == before + 1
    assert {e.network for e in table.list()} == {str(e.network) + ("" if "/" in e.network else "/32") for e in new}


def test_expiry_removes_what_is_past(datapath: DataPath) -> None:
    tables = datapath.tables
    tables.quarantine.add(Quarantine(DEVICE, until_s=100), Quarantine(b"\x02" * 6, until_s=101))
    tables.dynamic.add(Dynamic("192.0.2.1", until_s=50))
    assert tables.expire(100) == {"quarantine": 1, "dynamic": 1}
    assert [q.mac for q in tables.quarantine.list()] == [b"\x02" * 6]
    assert datapath.settings.features == abi.F_QUARANTINE
    assert tables.quarantine.clear() == 1
    assert datapath.settings.features == 0


# -- pins and take-over


def test_a_second_start_finds_everything(plumbing: Path, bpffs: Path) -> None:
    pins = bpffs / "vigie"
    first = DataPath.open(plumbing, pins)
    first.load_image(abi.KIND_BASE, image(41))
    first.tables.exceptions.add(ExceptionEntry("192.0.2.1", Action.ALLOW))
    first.flows[5]["tag"] = 77
    seed = int(first.control["flow_seed"])
    gen = first.settings.gen
    first.close()
    assert {p.name for p in layout_dir(pins).iterdir()} == {*abi.MAPS, "image_1"}
    second = DataPath.open(plumbing, pins)
    header = second.image_header()
    assert header is not None and int(header["serial"]) == 41
    assert (int(second.control["flow_seed"]), int(second.flows[5]["tag"]), second.settings.gen) == (seed, 77, gen)
    assert len(second.tables.exceptions) == 1
    assert second.settings.features == abi.F_EXCEPTIONS
    second.close()


def test_images_are_opened_without_their_numbers(plumbing: Path, bpffs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a map by its number needs CAP_SYS_ADMIN, which the daemon has not: pins lead to every image."""

    def refuse(number: int, name: str = "") -> Map:
        raise BpfError(f"map number {number} ({name}): EPERM")

    monkeypatch.setattr(Map, "by_id", refuse)
    for serial in (1, 2, 3):
        with closing(DataPath.open(plumbing, bpffs)) as datapath:
            datapath.load_image(abi.KIND_BASE, image(serial))
            header = datapath.image_header()
            assert header is not None and int(header["serial"]) == serial
            slot = abi.gen_parts(datapath.settings.gen)[2]
            assert [p.name for p in layout_dir(bpffs).glob("image_*")] == [f"image_{slot}"], "the old one goes"


def test_a_pin_of_another_image_is_not_believed(plumbing: Path, bpffs: Path) -> None:
    with closing(DataPath.open(plumbing, bpffs)) as datapath:
        datapath.load_image(abi.KIND_BASE, image(1))
        (slot_pin,) = layout_dir(bpffs).glob("image_*")
        slot_pin.unlink()
        with closing(Map.create(datapath.maps["control"].type, "other", 4, 64, 1)) as other:
            other.pin(slot_pin)
        header = datapath.image_header()
        assert header is not None and int(header["serial"]) == 1


def test_killed_in_the_middle_of_a_swap_the_idle_slot_is_freed(plumbing: Path, bpffs: Path) -> None:
    first = DataPath.open(plumbing, bpffs)
    first.load_image(abi.KIND_BASE, image(1))
    in_use = first.maps["images"].lookup(1)
    assert in_use is not None
    leftover = Map.by_id(int.from_bytes(in_use, "little"))
    first.maps["images"].update_fd(0, leftover)
    leftover.pin(layout_dir(bpffs) / "image_0")
    first.close()
    second = DataPath.open(plumbing, bpffs)
    assert second.maps["images"].lookup(0) is None
    assert [p.name for p in layout_dir(bpffs).glob("image_*")] == ["image_1"], "what a pin holds is not freed"
    header = second.image_header()
    assert header is not None and int(header["serial"]) == 1
    second.close()


def test_pins_of_another_shape_are_refused(plumbing: Path, bpffs: Path) -> None:
    DataPath.open(plumbing, bpffs, sizes={"quarantine": 8}).close()
    with pytest.raises(LayoutError, match="map quarantine"):
        DataPath.open(plumbing, bpffs, sizes={"quarantine": 16})


def test_pins_need_a_bpffs(plumbing: Path, tmp_path: Path) -> None:
    with pytest.raises(BpfError, match="bpffs"):
        DataPath.open(plumbing, tmp_path / "pins")


KILLED = """
import sys, time
from pathlib import Path
from vigie.contract.codes import Action
from vigie.filter.datapath import DataPath
from vigie.filter.entries import ExceptionEntry
datapath = DataPath.open(Path(sys.argv[1]), Path(sys.argv[2]))
datapath.tables.exceptions.add(ExceptionEntry("192.0.2.7", Action.BLOCK))
print("ready", flush=True)
time.sleep(60)
"""


def test_kill_9_loses_nothing(plumbing: Path, bpffs: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(plumbing), str(bpffs)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=10)
    after = DataPath.open(plumbing, bpffs)
    assert [e.network for e in after.tables.exceptions.list()] == ["192.0.2.7/32"]
    after.close()


# An old layout, made up: a small hash of flows by their key.
V0_KEY = abi.FLOW_KEY
V0_VALUE = np.dtype([("opener", "u4"), ("last_s", "u4"), ("packets", "u8", (2,))])


def v0_converter(folder: Path) -> Legacy:
    raw_keys, raw_values = Map.pinned(folder / "flows").read_all()
    keys, values = np.frombuffer(raw_keys, dtype=V0_KEY), np.frombuffer(raw_values, dtype=V0_VALUE)
    flows: Flows = np.zeros(len(keys), dtype=abi.FLOW)
    flows["key"], flows["packets"], flows["last_s"] = keys, values["packets"], values["last_s"]
    flows["first_s"] = values["last_s"]
    flows["flags"] = values["opener"] << abi.FL_INIT_SHIFT
    flows["meta"] = abi.join_meta(0, Verdict.PASS, Reason.DEFAULT, 0)
    return Legacy(flows)


def pin_v0(folder: Path, count: int) -> list[bytes]:
    folder.mkdir(parents=True)
    old = Map.create(1, "flows", V0_KEY.itemsize, V0_VALUE.itemsize, 4096)
    keys = [key_bytes(f"192.0.2.{i % 250}", "198.51.100.1", 1000 + i, 443, 6, 4) for i in range(count)]
    for i, key in enumerate(keys):
        old.update(key, abi.pack(V0_VALUE, opener=1, last_s=i, packets=[i, 2 * i]))
    old.pin(folder / "flows")
    return keys


class Attached:
    """Stands for tc: only `attached` matters to a migration."""

    def __init__(self, datapath: DataPath) -> None:
        self.datapath, self.on = datapath, False

    def attached(self, *_: str) -> bool:
        return self.on


def test_flows_of_a_known_layout_are_carried_over(plumbing: Path, bpffs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = pin_v0(bpffs / "v0", 500)
    datapath = DataPath.open(plumbing, bpffs)
    hooks = Attached(datapath)
    monkeypatch.setattr(datapath, "attached", hooks.attached)
    migration = Migration(datapath, bpffs, {0: v0_converter})
    outcome = migration.prepare()
    assert (outcome.layouts, outcome.flows, outcome.grace_until) == ((0,), 500, 0)
    index = datapath.cache.find(keys[123])
    assert index is not None
    row = datapath.flows[index]
    assert row["packets"].tolist() == [123, 246]
    assert int(row["flags"]) >> abi.FL_INIT_SHIFT & 3 == 1
    with pytest.raises(BpfError, match="not attached"):
        migration.finish("a", "b", "br0")
    assert (bpffs / "v0").exists(), "nothing is removed before the new programs judge"
    late = key_bytes("192.0.2.1", "203.0.113.5", 5, 443, 6, 4)
    Map.pinned(bpffs / "v0" / "flows").update(late, abi.pack(V0_VALUE, opener=2))
    hooks.on = True
    assert migration.finish("a", "b", "br0") == 1
    assert datapath.cache.find(late) is not None
    assert not (bpffs / "v0").exists()
    assert migration.finish("a", "b", "br0") == 0
    datapath.close()


def test_an_unknown_layout_begins_the_grace_period(plumbing: Path, bpffs: Path) -> None:
    pin_v0(bpffs / "v7", 3)
    datapath = DataPath.open(plumbing, bpffs)
    outcome = Migration(datapath, bpffs, {0: v0_converter}).prepare()
    assert (outcome.layouts, outcome.flows) == ((7,), 0)
    assert outcome.grace_until == int(datapath.control["grace_until"]) > 100
    datapath.close()


def test_half_pinned_maps_begin_the_grace_period(plumbing: Path, bpffs: Path) -> None:
    (bpffs / "v0").mkdir()
    datapath = DataPath.open(plumbing, bpffs)
    outcome = Migration(datapath, bpffs, {0: v0_converter}).prepare()
    assert outcome.grace_until > 0
    datapath.close()


def test_nothing_pinned_nothing_done(plumbing: Path, bpffs: Path) -> None:
    datapath = DataPath.open(plumbing, bpffs)
    assert Migration(datapath, bpffs).prepare().layouts == ()
    datapath.close()


# -- the real object


def tcp_syn(source: str, destination: str, sport: int, dport: int) -> bytes:
    layers = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src=source, dst=destination)
    return bytes(layers / TCP(sport=sport, dport=dport, flags="S"))


def test_real_object_and_its_flow_hash() -> None:
    assert REAL.is_file(), f"{REAL} is missing: make -C firmware/bpf"
    datapath = DataPath.open(REAL)
    datapath.settings.set_ports([1, 2], [1500, 1500])
    datapath.settings.set_feature(abi.F_TRACE, True)
    for port in range(40000, 40050):
        run = datapath.programs["vigie_ingress"].test_run(tcp_syn("192.0.2.9", "198.51.100.1", port, 80), LOOPBACK)
        assert run.retval in (0, 7)
        index = datapath.cache.find(key_bytes("192.0.2.9", "198.51.100.1", port, 80, 6, 4))
        assert index is not None, f"port {port}: Python and the data path hash flows differently"
        assert datapath.flows[index]["packets"].tolist() == [1, 0]
    assert len(datapath.flows_snapshot()) == 50
    kinds = {events.decode(r).kind for r in datapath.events().read()}
    assert EventKind.FLOW in kinds
    datapath.close()


def test_real_programs_and_maps_are_all_there() -> None:
    assert REAL.is_file(), f"{REAL} is missing: make -C firmware/bpf"
    datapath = DataPath.open(REAL)
    assert {"vigie_ingress", "vigie_own", "vigie_pass", "vigie_empty"} <= set(datapath.programs)
    datapath.close()
