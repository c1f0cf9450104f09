"""Bases reach a box by delta, by chain, whole; interrupted, resumed, refused; through a real HTTPS server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.update.conftest import BOX, NETS, Box, make_box
from tests.integration.update.repository_side import DAY, Simulator
from tests.integration.update.web_side import HOST, Pki, Proxy, Web, make_pki, serving
from tests.unit.base_delta.bases import simple
from vigie.contract.base import Override, ring
from vigie.contract.dsse import public_bytes
from vigie.contract.trust import SteeringKeys
from vigie.errors import HostError
from vigie.filter.base.basefile import pack_base
from vigie.filter.base.model import Base
from vigie.update.codes import Code
from vigie.update.fetch import SMALL
from vigie.update.service import LOOK, Service

pytestmark = pytest.mark.integration


def base(version: int, *more: str) -> Base:
    return simple(version, [*NETS, *(f"45.200.{version}.{i}" for i in range(0, 6, 2)), *more])


def large(version: int) -> bytes:
    """A base whose file is too large for one packet: names do not compress."""
    rng = np.random.default_rng(version)
    names = [f"{n:013x}.example" for n in rng.integers(0, 1 << 52, 60_000).tolist()]
    data = pack_base(simple(version, NETS, names))
    assert len(data) > 2 * SMALL
    return data


def test_nothing_published_then_a_first_base(box: Box, repository: Simulator) -> None:
    repository.publish()
    assert box.look().code == Code.NOTHING
    repository.release(repository.add(base(1)))
    status = box.look()
    assert (status.code, status.version, status.way) == (Code.UPDATED, 1, "loaded"), status
    assert box.version == 1 and box.filter.data == repository.bases[1]
    again = box.look()
    assert (again.code, again.updated, again.received > 0) == (Code.UP_TO_DATE, status.updated, True)
    assert box.filter.ops() == ["base-apply"]
    said = json.loads((box.config.paths.update / "status.json").read_text())
    assert (said["code"], said["version"], said["wanted"]) == ("up-to-date", 1, 1)


def test_a_delta_when_it_fits_and_one_connection_for_all(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(base(1)))
    box.look()
    repository.release(repository.add(base(2)), repository.add_delta(1, 2))
    web.asked.clear()
    before = web.connections
    assert (box.look().way, box.version) == ("patched", 2)
    assert not [p for p in web.paths() if p.endswith(".vgb")]
    assert web.connections == before + 1
    assert box.filter.data == repository.bases[2]


def test_a_chain_of_deltas_also_in_a_new_process(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(base(1)))
    box.look()
    two, three = repository.add(base(2)), repository.add(base(3))
    repository.release(three, repository.add_delta(1, 2), repository.add_delta(2, 3), previous=two)
    box.restarted()
    assert box.look().code == Code.UPDATED
    assert box.filter.ops()[1:] == ["base-apply-delta"] * 2 and box.version == 3


def test_a_delta_of_another_predecessor_gives_way_to_the_whole_base(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    box.look()
    box.filter.data = pack_base(base(1, "45.99.1.1"))  # another base 1 than the published one
    repository.release(repository.add(base(2)), repository.add_delta(1, 2))
    status = box.look()
    assert (status.code, status.way) == (Code.UPDATED, "loaded")
    assert box.filter.ops()[1:] == ["base-apply-delta", "base-apply"] and box.filter.data == repository.bases[2]


def test_a_delta_that_is_broken_or_missing_gives_way_too(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(base(1)))
    box.look()
    repository.release(repository.add(base(2)), repository.add_delta(1, 2, b"\x89VGD no delta at all"))
    assert box.look().way == "loaded" and box.version == 2
    repository.release(repository.add(base(3)), repository.add_delta(2, 3))
    gone = [path for path in web.files if path.endswith("delta-2-3.vgd")]
    for path in gone:
        del web.files[path]
    assert box.look().way == "loaded" and box.version == 3


def test_waves_previous_and_trials(box: Box, repository: Simulator) -> None:
    one = repository.add(base(1))
    repository.release(one)
    box.look()
    early = next(v for v in range(2, 2000) if ring(BOX, v) < 5)
    late = next(v for v in range(early + 1, 2000) if ring(BOX, v) >= 5)
    repository.release(repository.add(base(early)), share=5, previous=one)
    assert box.look().version == early
    repository.release(repository.add(base(late)), share=5, previous=one)
    status = box.look()
    assert (status.code, box.version) == (Code.OLDER, early)  # it is in no hurry, and does not go back
    repository.release(repository.add(base(late)), share=100)
    assert box.look().version == late


def test_volunteers_try_candidates_and_leave_them(box: Box, repository: Simulator) -> None:
    one = repository.add(base(1))
    repository.release(one)
    box.look()
    trial = base(2, "45.77.1.1")
    trial.flags = 1
    repository.release(one, candidate=repository.add(trial))
    assert box.look().code == Code.UP_TO_DATE
    settings = box.config.paths.link / "settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"v": 1, "volunteer": true}')
    status = box.look()
    assert (status.version, status.candidate) == (2, True)
    assert box.look().code == Code.UP_TO_DATE
    repository.release(one)  # the trial was broken off
    status = box.look()
    assert (status.code, status.version, status.candidate) == (Code.UPDATED, 1, False)


def test_a_published_older_base_is_never_taken_again(box: Box, repository: Simulator) -> None:
    for version in (5, 6):
        repository.release(repository.add(base(version)))
        box.look()
    repository.release(repository.add(repository.bases[5], 5))
    status = box.look()
    assert (status.code, box.version) == (Code.OLDER, 6)
    repository.release(repository.add(base(7)))  # what a revert is: the old content under a new version
    assert box.look().version == 7


def test_an_interrupted_download_resumes_in_a_new_process(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(large(1), 1))
    sent: list[int] = []

    def cut(path: str, handler: Any) -> bool:
        if not path.endswith(".vgb"):
            return False
        data, start = web.files[path], int(handler.headers.get("Range", "bytes=0-")[6:-1])
        handler.head(data, start)
        sent.append(start)
        handler.wfile.write(data[start : start + 300_000])
        handler.close_connection = True
        return True

    web.twist = cut
    for _ in range(2):
        status = box.look()
        assert status.code == Code.INCOMPLETE, status
        box.restarted()
    web.twist = lambda _path, _handler: False
    assert (box.look().code, box.version) == (Code.UPDATED, 1)
    last = [wanted for path, wanted in web.asked if path.endswith(".vgb")][-1]
    assert sent == [0, 300_000] and last == "bytes=600000-"
    assert not list((box.config.paths.update / "partial").iterdir())


def test_a_server_without_ranges_begins_again(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(large(1), 1))
    partial = box.config.paths.update / "partial"
    web.twist = lambda path, handler: path.endswith(".vgb") and _first(web, path, handler, 100_000)
    assert box.look().code == Code.INCOMPLETE
    assert [p.stat().st_size for p in partial.iterdir()] == [100_000]
    web.twist, web.ranges = lambda _path, _handler: False, False
    assert box.look().code == Code.UPDATED


def test_a_beginning_that_is_another_files_is_thrown_away(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(large(1), 1))
    web.twist = lambda path, handler: path.endswith(".vgb") and _first(web, path, handler, 100_000)
    box.look()
    web.twist = lambda _path, _handler: False
    partial = next((box.config.paths.update / "partial").iterdir())
    partial.write_bytes(bytes(100_000))
    assert box.look().code == Code.MISMATCH
    assert (box.look().code, box.version) == (Code.UPDATED, 1)


def _first(web: Web, path: str, handler: Any, size: int) -> bool:
    data = web.files[path]
    handler.head(data)
    handler.wfile.write(data[:size])
    handler.close_connection = True
    return True


def test_a_full_disk_leaves_the_running_base(box: Box, repository: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.release(repository.add(large(1), 1))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("vigie.update.fetch.shutil.disk_usage", lambda _path: usage._replace(free=1 << 20))
    status = box.look()
    assert (status.code, box.version) == (Code.DISK_FULL, 1_700_000_000)
    monkeypatch.undo()
    assert box.look().code == Code.UPDATED


def test_a_really_full_partition(tmp_path: Path, web: Web, pki: Pki, repository: Simulator) -> None:
    """A tmpfs of 1 MB: the metadata has room, the base has not."""
    box = make_box(tmp_path / "box", web, pki, repository)
    state = box.config.paths.update
    state.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(state)], check=True)
    try:
        repository.release(repository.add(base(1)))
        assert box.look().code == Code.UPDATED
        repository.release(repository.add(large(2), 2))
        assert (box.look().code, box.version) == (Code.DISK_FULL, 1)
        (state / "filler").write_bytes(b"")
        with (state / "filler").open("wb") as file, pytest.raises(OSError, match="No space"):
            file.write(bytes(1 << 20))
            file.flush()
        repository.release(repository.add(base(3)))
        assert box.update.store.memory().newest == 1
        with pytest.raises(HostError, match="cannot be written"):
            box.look()
        assert box.version == 1
        (state / "filler").unlink()
        assert box.look().version == 3
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_an_oversize_base_signed_by_the_online_key_is_refused_and_not_fetched_again(
    box: Box, repository: Simulator, web: Web
) -> None:
    repository.release(repository.add(base(1)))
    box.look()
    wide = simple(2, [*NETS, "46.0.0.0/8"])
    file = repository.add(wide)
    repository.release(file, repository.add_delta(1, 2))
    status = box.look()
    assert (status.code, status.limits) == (Code.REFUSED, ("limit-prefix4", "limit-cover4"))
    assert (status.version, status.wanted, box.version) == (1, 2, 1)
    web.asked.clear()
    assert box.look().code == Code.REFUSED
    assert not [p for p in web.paths() if p.endswith((".vgb", ".vgd"))]
    # The keyholders look at it and sign.
    repository.offline_targets["override/base-2.json"] = b'{"an": "envelope"}'
    repository.publish()
    status = box.look()
    assert (status.code, status.way, box.version) == (Code.UPDATED, "loaded", 2)
    assert box.filter.asked[-1][1]["override"] == '{"an": "envelope"}'


def test_an_override_signed_by_the_online_role_is_none(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    box.look()
    file = repository.add(simple(2, [*NETS, "46.0.0.0/8"]))
    repository.base_targets["override/base-2.json"] = Override(2, file.sha256).to_bytes()
    repository.release(file)
    assert (box.look().code, box.version) == (Code.REFUSED, 1)
    assert "override" not in box.filter.asked[-1][1]


def test_steering_keys_arrive(box: Box, repository: Simulator) -> None:
    keys = [public_bytes(Ed25519PrivateKey.generate()) for _ in range(6)]
    data = SteeringKeys.of((keys[0],), tuple(keys[1:])).to_bytes()
    repository.offline_targets["keys/steering.json"] = data
    repository.release(repository.add(base(1)))
    box.look()
    path = box.config.paths.update / "steering.json"
    assert path.read_bytes() == data
    repository.offline_targets["keys/steering.json"] = b"{}"
    repository.release(repository.add(base(2)))
    assert (box.look().version, path.read_bytes()) == (2, data)


def test_the_filter_is_away(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    box.filter.deaf = True
    assert box.look().code == Code.FILTER
    box.filter.deaf = False
    assert box.look().code == Code.UPDATED


def test_a_base_that_the_disk_never_got_is_fetched_whole(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    box.look()
    box.filter.kept = False
    assert box.look().way == "loaded" and box.filter.kept


def test_a_box_that_lost_its_base_takes_it_again(box: Box, repository: Simulator) -> None:
    """The filter fell back to the base of the image: a power cut before the disk had the new one."""
    first = box.filter.data
    repository.release(repository.add(base(1)))
    box.look()
    box.filter.data = first
    assert (box.look().code, box.version) == (Code.UPDATED, 1)


def test_through_the_proxy_of_the_town_hall(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(base(1)))
    with Proxy() as proxy:
        box.config = replace(box.config, proxy=proxy.url, addresses={HOST: "192.0.2.1"})
        assert (box.restarted().look().code, box.version) == (Code.UPDATED, 1)
        assert set(proxy.asked) == {f"{HOST}:{web.port}"}
    with Proxy(refuses=True) as proxy:
        box.config = replace(box.config, proxy=proxy.url)
        assert box.restarted().look().code == Code.PROXY


def test_a_chunked_answer_is_an_answer(box: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(base(1)))

    def chunked(path: str, handler: Any) -> bool:
        data = web.files.get(path)
        if data is None:
            return False
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for at in range(0, len(data), 1000):
            piece = data[at : at + 1000]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")
        return True

    web.twist = chunked
    assert (box.look().code, box.version) == (Code.UPDATED, 1)


def test_not_enrolled(tmp_path: Path, web: Web, pki: Pki, repository: Simulator) -> None:
    box = make_box(tmp_path / "box", web, pki, repository)
    (box.config.paths.enrol / "current").unlink()
    assert box.look().code == Code.NOT_ENROLLED and not web.asked


def test_another_server_answers(tmp_path: Path, web: Web, pki: Pki, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    box = make_box(tmp_path / "box", web, pki, repository)
    impostor = make_pki(tmp_path / "impostor")
    with serving(impostor, web.files) as fake:
        box.config = replace(box.config, ports=replace(box.config.ports, https=fake.port))
        assert box.restarted().look().code == Code.SERVER_KEY and not fake.asked
    wrong = make_pki(tmp_path / "wrong", "elsewhere.vigie.test")
    (box.config.paths.trust / "roots.pem").write_bytes(wrong.roots.read_bytes())
    with serving(wrong, web.files) as fake:
        box.config = replace(box.config, ports=replace(box.config.ports, https=fake.port))
        assert box.restarted().look().code == Code.SERVER_KEY and not fake.asked


@pytest.mark.parametrize("system", [0.0, 2_208_988_800.0])
def test_a_clock_at_1970_or_2040_does_not_stop_updates_when_a_signed_time_is_known(
    box: Box, repository: Simulator, system: float
) -> None:
    repository.release(repository.add(base(1)))
    box.machine.system = repository.now
    box.clock.adopt(repository.now)
    box.machine.system = system
    assert box.look().code == Code.UPDATED


def test_a_clock_that_lies_ahead_recovers_with_the_signed_time(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    box.machine.system = 2_208_988_800.0
    assert box.look().code == Code.EXPIRED
    box.clock.adopt(repository.now)
    assert box.look().code == Code.UPDATED


def test_the_service_looks_when_told(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    service = Service(box.config, box.update)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        _until(lambda: box.version == 1)
        repository.release(repository.add(base(2)), repository.add_delta(1, 2))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(str(box.config.paths.run_update / "update.sock"))
            sock.send(b"something else")
            sock.send(LOOK)
        _until(lambda: box.version == 2)
    finally:
        service.stop()
        thread.join(10)
    assert not thread.is_alive() and not (box.config.paths.run_update / "update.sock").exists()


def test_the_service_begins_when_the_box_is_enrolled(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    current = box.config.paths.enrol / "current"
    current.rename(current.with_name("later"))
    service = Service(box.config, box.update)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        _until(lambda: box.update.store.status().code == Code.NOT_ENROLLED)
        current.with_name("later").rename(current)
        _until(lambda: box.version == 1)
    finally:
        service.stop()
        thread.join(10)
    assert not thread.is_alive()


def _until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_one_at_a_time(box: Box, repository: Simulator) -> None:
    repository.release(repository.add(base(1)))
    with box.update.store.alone():
        assert box.look().code == Code.STARTING
    assert box.look().code == Code.UPDATED


def test_months_offline(box: Box, repository: Simulator) -> None:
    """Six months of expired metadata on both sides: what is in force stays, and updates recover."""
    repository.release(repository.add(base(1)))
    box.look()
    repository.later(180 * DAY)
    box.machine.system = repository.now
    status = box.look()
    assert (status.code, box.version) == (Code.EXPIRED, 1)
    box.restarted()
    repository.renew_root()
    repository.release(repository.add(base(2)), repository.add_delta(1, 2))
    assert (box.look().code, box.version) == (Code.UPDATED, 2)
