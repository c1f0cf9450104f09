"""What whoever owns the web server, the line or some keys cannot do. After each attack the truth is taken again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Snapshot

from tests.integration.update.conftest import NETS, Box, make_box
from tests.integration.update.repository_side import DAY, Simulator, fresh
from tests.integration.update.web_side import Pki, Web, drip
from tests.unit.base_delta.bases import simple
from vigie.filter.base.model import Base
from vigie.update.codes import Code
from vigie.update.fetch import SMALL

pytestmark = pytest.mark.integration


def base(version: int) -> Base:
    return simple(version, [*NETS, *(f"45.200.{version}.{i}" for i in range(0, 6, 2))])


@pytest.fixture
def steady(box: Box, repository: Simulator) -> Iterator[Box]:
    """A box that has base 1; afterwards it must still be able to take another from the honest repository."""
    repository.release(repository.add(base(1)))
    assert box.look().code == Code.UPDATED
    yield box


def recovers(box: Box, repository: Simulator, web: Web, version: int) -> None:
    """The honest server is back."""
    web.twist, web.files = lambda _path, _handler: False, repository.files
    repository.release(repository.add(base(version)))
    status = box.look()
    assert (status.code, box.version) == (Code.UPDATED, version), status


def test_old_metadata_is_refused(steady: Box, repository: Simulator, web: Web) -> None:
    old = repository.copy()
    repository.release(repository.add(base(2)))
    assert steady.look().version == 2
    web.files = old
    status = steady.restarted().look()
    assert (status.code, steady.version) == (Code.ROLLBACK, 2), status
    recovers(steady, repository, web, 3)


def test_an_old_snapshot_under_a_new_timestamp_is_refused(steady: Box, repository: Simulator, web: Web) -> None:
    """The timestamp key alone is stolen: it cannot bring older targets back."""
    old = repository.copy()
    repository.release(repository.add(base(2)))
    steady.look()
    timestamp = Metadata.from_bytes(old["metadata/timestamp.json"])
    timestamp.signed.version = repository.versions["timestamp"] + 5
    timestamp.sign(repository.online["timestamp"])
    web.files = {**repository.files, "metadata/timestamp.json": timestamp.to_bytes()}
    status = steady.look()
    assert (status.code, steady.version) == (Code.ROLLBACK, 2), status


def test_a_frozen_repository_is_noticed_when_its_timestamp_expires(
    steady: Box, repository: Simulator, web: Web
) -> None:
    frozen = repository.copy()
    repository.release(repository.add(base(2)))
    web.files = frozen
    assert steady.look().code == Code.UP_TO_DATE  # an attacker may hold back for as long as a timestamp lives
    steady.machine.system += 2 * DAY + 1
    repository.later(2 * DAY + 1)
    assert (steady.look().code, steady.version) == (Code.EXPIRED, 1)
    recovers(steady, repository, web, 3)


def test_parts_of_different_times_are_not_mixed(steady: Box, repository: Simulator, web: Web) -> None:
    """The old list of targets under the new snapshot's name, and the old descriptor under the new one's."""
    old = repository.copy()
    versions = dict(repository.versions)
    repository.release(repository.add(base(2)))
    mixed = repository.copy()
    mixed[f"metadata/{repository.versions['base']}.base.json"] = old[f"metadata/{versions['base']}.base.json"]
    web.files = mixed
    status = steady.look()
    assert (status.code, steady.version) == (Code.ROLLBACK, 1), status
    mixed = repository.copy()
    new_name = next(name for name in mixed if name.endswith("current.json") and name not in old)
    old_name = next(name for name in old if name.endswith("current.json"))
    mixed[new_name] = old[old_name]
    web.files = mixed
    assert steady.look().code in (Code.MISMATCH, Code.TOO_LARGE) and steady.version == 1
    recovers(steady, repository, web, 3)


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("timestamp.json", "announced"), ("timestamp.json", "chunked"), ("2.root.json", "until closed"),
        ("snapshot.json", "chunked"), ("base.json", "until closed"), ("current.json", "chunked"),
        (".vgb", "announced"), (".vgb", "until closed"),
    ],
)  # fmt: skip
def test_endless_data_is_cut_off(steady: Box, repository: Simulator, web: Web, what: str, how: str) -> None:
    repository.release(repository.add(base(2)))
    sent = 0

    def endless(path: str, handler: Any) -> bool:
        nonlocal sent
        if not path.endswith(what):
            return False
        handler.send_response(200)
        if how == "announced":
            handler.send_header("Content-Length", str(1 << 40))
        elif how == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
        handler.close_connection = True
        handler.end_headers()
        piece = b"10000\r\n" + bytes(65536) + b"\r\n" if how == "chunked" else bytes(65536)
        try:
            while sent < 64 << 20:
                handler.wfile.write(piece)
                sent += 65536
        except OSError:
            handler.close_connection = True
        return True

    web.twist = endless
    status = steady.look()
    assert (status.code, steady.version) == (Code.TOO_LARGE, 1), status
    assert sent < 16 << 20, f"{sent} bytes were taken"
    assert not list((steady.config.paths.update / "partial").glob("*"))
    recovers(steady, repository, web, 3)


@pytest.mark.parametrize("where", ["header", "body"])
def test_a_trickle_is_given_up(tmp_path: Path, web: Web, pki: Pki, repository: Simulator, where: str) -> None:
    """A byte every 0.1 s, for longer than a test may last: no single read ever waits long."""
    box = make_box(tmp_path / "slow", web, pki, repository, connect_s=0.5, read_s=0.5)
    repository.release(repository.add(base(1)))

    def trickle(_path: str, handler: Any) -> bool:
        if where == "body":
            handler.head(bytes(5000))
        drip(handler, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 5000, 0.1, limit=300)
        return True

    web.twist = trickle
    status = box.look()
    assert status.code == Code.SLOW, status
    recovers(box, repository, web, 2)


def test_a_server_that_never_greets(tmp_path: Path, web: Web, pki: Pki, repository: Simulator) -> None:
    box = make_box(tmp_path / "slow", web, pki, repository, connect_s=0.5, read_s=0.5)
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        box.config = replace(box.config, ports=replace(box.config.ports, https=quiet.getsockname()[1]))
        status = box.restarted().look()
    assert status.code == Code.SLOW, status


def test_a_file_of_another_length_or_content_is_refused(steady: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(base(2)))
    name = next(n for n in repository.files if n.endswith("base-2.vgb"))
    good = repository.files[name]
    web.files = repository.files
    for bad, code in (
        (good[:-1] + bytes([good[-1] ^ 1]), Code.MISMATCH),
        (good + b"x", Code.TOO_LARGE),
        (good[:-1], Code.MISMATCH),
        (b"", Code.MISMATCH),
    ):
        repository.files[name] = bad
        status = steady.look()
        assert (status.code, steady.version) == (code, 1), (len(bad), status)
    assert steady.filter.ops() == ["base-apply"]
    repository.files[name] = good
    assert steady.look().version == 2


def test_a_large_file_of_another_content_is_not_resumed_for_ever(steady: Box, repository: Simulator, web: Web) -> None:
    rng = np.random.default_rng(1)
    names = [f"{n:013x}.example" for n in rng.integers(0, 1 << 52, 40_000).tolist()]
    repository.release(repository.add(simple(2, NETS, names)))
    name = next(n for n in repository.files if n.endswith("base-2.vgb"))
    good = repository.files[name]
    assert len(good) > SMALL
    repository.files[name] = b"\0" + good[1:]
    assert steady.look().code == Code.MISMATCH
    assert not list((steady.config.paths.update / "partial").iterdir())
    repository.files[name] = good
    assert steady.look().version == 2


def resigned(data: bytes, *signers: CryptoSigner, version: int = 0) -> bytes:
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    if version:
        metadata.signed.version = version
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def test_one_offline_key_is_not_enough(steady: Box, repository: Simulator, web: Web) -> None:
    """One of five keyholders is an attacker, who has the online keys too: no new root, no new targets role."""
    repository.signers = 1
    repository.offline_targets["override/base-2.json"] = b"{}"
    repository.release(repository.add(base(2)))
    status = steady.look()
    assert (status.code, steady.version) == (Code.SIGNATURE, 1), status
    repository.signers = 2
    repository.offline_targets.clear()
    rogue = fresh(5)
    honest, repository.root_keys = repository.root_keys, [repository.root_keys[0], *rogue[1:]]
    data = repository.renew_root(repository.root_keys[:2])
    web.files = {**repository.files, "metadata/2.root.json": data}
    status = steady.look()
    assert (status.code, steady.version) == (Code.SIGNATURE, 1), status
    # Signing the same key twice does not count twice either.
    repository.files["metadata/2.root.json"] = resigned(data, honest[0], honest[0], version=2)
    web.files = repository.files
    assert steady.look().code == Code.SIGNATURE
    del repository.files["metadata/2.root.json"]
    repository.root_keys, repository.versions["root"] = honest, 1
    recovers(steady, repository, web, 3)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "base"])
def test_metadata_signed_by_a_strangers_key(steady: Box, repository: Simulator, web: Web, role: str) -> None:
    (stranger,) = fresh(1)
    repository.release(repository.add(base(2)))
    name = "metadata/timestamp.json" if role == "timestamp" else f"metadata/{repository.versions[role]}.{role}.json"
    web.files = {**repository.files, name: resigned(repository.files[name], stranger)}
    status = steady.look()
    assert (status.code, steady.version) == (Code.SIGNATURE, 1), status
    recovers(steady, repository, web, 3)


def test_a_role_that_disappears_from_the_snapshot(steady: Box, repository: Simulator, web: Web) -> None:
    repository.release(repository.add(base(2)))
    version = repository.versions["snapshot"]
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(repository.files[f"metadata/{version}.snapshot.json"])
    del snapshot.signed.meta["base.json"]
    snapshot.sign(repository.online["snapshot"])
    web.files = {**repository.files, f"metadata/{version}.snapshot.json": snapshot.to_bytes()}
    status = steady.look()
    assert (status.code, steady.version) == (Code.MALFORMED, 1), status
    recovers(steady, repository, web, 3)


def test_stolen_online_keys_are_replaced_by_a_new_root(steady: Box, repository: Simulator, web: Web) -> None:
    """The thief ran the versions far ahead; new keys from the keyholders begin again."""
    repository.versions.update(timestamp=10**6, snapshot=10**6)
    repository.release(repository.add(base(2)))
    assert steady.look().version == 2
    repository.online = dict(zip(("timestamp", "snapshot", "base"), fresh(3), strict=True))
    repository.renew_root()
    repository.versions.update(timestamp=10**6, snapshot=10**6)
    recovers(steady, repository, web, 3)


def test_a_descriptor_that_contradicts_the_metadata(steady: Box, repository: Simulator) -> None:
    file = repository.add(base(2))
    repository.release(replace(file, length=file.length + 1))
    assert (steady.look().code, steady.version) == (Code.MALFORMED, 1)
    repository.base_targets["base/current.json"] = b'{"v": 2}'
    repository.publish()
    assert (steady.look().code, steady.version) == (Code.MALFORMED, 1)
    repository.base_targets["base/current.json"] = b"x" * (65 * 1024)
    repository.publish()
    assert (steady.look().code, steady.version) == (Code.TOO_LARGE, 1)


@pytest.mark.parametrize("status_code", [302, 401, 500, 503])
def test_answers_that_are_no_files(steady: Box, web: Web, status_code: int) -> None:
    def answer(_path: str, handler: Any) -> bool:
        handler.send_response(status_code)
        handler.send_header("Location", "http://127.0.0.1:1/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    web.twist = answer
    assert (steady.look().code, steady.version) == (Code.HTTP, 1)


def test_the_proxy_of_the_environment_is_not_asked(
    steady: Box, repository: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    repository.release(repository.add(base(2)))
    assert steady.look().version == 2


def test_trust_files_that_are_missing(steady: Box) -> None:
    (steady.config.paths.trust / "tuf-root.json").rename(steady.config.paths.trust / "away")
    assert steady.look().code == Code.TRUST
    (steady.config.paths.trust / "away").rename(steady.config.paths.trust / "tuf-root.json")
    (steady.config.paths.trust / "roots.pem").write_text("")
    assert steady.look().code == Code.TRUST


def test_local_metadata_spoilt_by_a_power_cut(steady: Box, repository: Simulator, web: Web) -> None:
    for path in (steady.config.paths.update / "tuf").rglob("*.json"):
        if not path.is_symlink():
            path.write_bytes(path.read_bytes()[:20])
    recovers(steady, repository, web, 2)
