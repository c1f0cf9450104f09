"""What the signer lets the publisher release, and what two operators have to approve."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract import dsse
from vigie.contract.base import CURRENT, Delta, Descriptor, File, base_path, delta_path
from vigie.contract.errors import ContractError
from vigie.contract.limits import VERSION_JUMP_MAX
from vigie_department.signer.errors import MetadataError, NeedsApproval, RateError, RuleError
from vigie_department.signer.rules import EMERGENCY_BASE, WAVES_MAX, emergency_body

from .conftest import Bench

WAVE_S = 6 * 3600


def base_file(version: int, content: str = "a") -> bytes:
    """Bytes that begin like a base file; `content` stands for its sections."""
    header = {"serial": version, "created": 1000 + version, "sections": {"v4.start": {"sha256": content}}}
    text = json.dumps(header).encode()
    return struct.pack("<8sHHI", b"\x89VGB\r\n\x1a\n", 1, 0, len(text)) + text + content.encode()


@dataclass
class Desk:
    """A publisher's side of a signer: puts files into the repository and asks."""

    bench: Bench

    def file(self, version: int, content: str = "a") -> File:
        data = base_file(version, content)
        info = self.bench.repository.add(base_path(version), data)
        return File(version, base_path(version), info.sha256, info.length)

    def descriptor(self, released: File, share: int, previous: File | None = None, **more: Any) -> Descriptor:
        plain = Descriptor(released, share, int(self.bench.clock.now), previous, None, ())
        return replace(plain, **more)

    def publish(self, descriptor: Descriptor, operator: str = "alice", **more: Any) -> dict[str, Any]:
        data = descriptor.to_bytes()
        files = [f for f in (descriptor.released, descriptor.previous, descriptor.candidate) if f is not None]
        targets: dict[str, Any] = {f.path: {"length": f.length, "sha256": f.sha256} for f in files}
        for delta in descriptor.deltas:
            targets[delta.path] = {"length": delta.length, "sha256": delta.sha256}
        targets[CURRENT] = {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        params = {"targets": targets, "operator": operator, "descriptor": data.decode()}
        return self.bench.service.tuf_publish("publisher", params | more)

    def release(self, version: int, previous: File | None = None, content: str = "a") -> File:
        """Through a wave, to all."""
        file = self.file(version, content)
        self.publish(self.descriptor(file, 5, previous))
        self.bench.clock.now += WAVE_S
        self.publish(self.descriptor(file, 100, previous))
        return file

    def request(self, file: File) -> dict[str, Any]:
        body = emergency_body(file.version, file.sha256)
        params = {"kind": EMERGENCY_BASE, "body": body, "operator": "alice"}
        return self.bench.service.request("publisher", params)


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench)


def test_a_base_is_with_a_part_of_the_boxes_before_it_is_with_all(desk: Desk) -> None:
    file = desk.file(1)
    with pytest.raises(NeedsApproval, match="before 6 h"):
        desk.publish(desk.descriptor(file, 100))
    desk.publish(desk.descriptor(file, 5))
    desk.bench.clock.now += WAVE_S - 1
    with pytest.raises(NeedsApproval):
        desk.publish(desk.descriptor(file, 100))
    desk.bench.restart()
    desk.bench.clock.now += 1
    desk.publish(desk.descriptor(file, 100))


def test_wave_after_wave_does_not_reach_everybody(desk: Desk) -> None:
    first = desk.release(1)
    for version in range(2, 2 + WAVES_MAX):
        desk.publish(desk.descriptor(desk.file(version, f"evil {version}"), 5, first))
    late = desk.file(20, "evil")
    with pytest.raises(RuleError, match="bases 2, 3, 4 went to a part"):
        desk.publish(desk.descriptor(late, 5, first))
    desk.bench.restart()
    desk.bench.clock.now += WAVE_S - 1
    with pytest.raises(RuleError, match="went to a part"):
        desk.publish(desk.descriptor(late, 5, first))
    with pytest.raises(NeedsApproval):
        desk.publish(desk.descriptor(late, 100, first))
    desk.bench.clock.now += 1
    desk.publish(desk.descriptor(late, 5, first))


def test_time_in_a_wave_does_not_serve_another_content(desk: Desk) -> None:
    desk.publish(desk.descriptor(desk.file(1), 5))
    desk.bench.clock.now += WAVE_S
    with pytest.raises(RuleError, match="another content"):
        desk.publish(desk.descriptor(desk.file(1, "evil"), 100))
    with pytest.raises(NeedsApproval):
        desk.publish(desk.descriptor(desk.file(2, "evil"), 100))


def test_what_most_boxes_keep_was_with_all_of_them_before(desk: Desk) -> None:
    first = desk.release(1)
    evil = desk.file(7, "evil")
    with pytest.raises(RuleError, match="never released to all"):
        desk.publish(desk.descriptor(desk.file(8), 5, evil))
    wave = desk.file(2, "b")
    desk.publish(desk.descriptor(wave, 5, first))
    with pytest.raises(RuleError, match="never released to all"):
        desk.publish(desk.descriptor(desk.file(3, "c"), 5, wave))
    forged = replace(first, sha256=desk.file(1, "evil").sha256)
    with pytest.raises(RuleError):
        desk.publish(desk.descriptor(desk.file(3, "c"), 5, forged))


def test_versions_and_shares_only_rise(desk: Desk) -> None:
    first = desk.release(5)
    second = desk.release(6, first, "b")
    with pytest.raises(RuleError, match="6 was released already"):
        desk.publish(desk.descriptor(first, 100))
    with pytest.raises(RuleError, match="only a revert"):
        desk.publish(desk.descriptor(second, 5, first))
    with pytest.raises(RuleError, match="too far above"):
        desk.publish(desk.descriptor(desk.file(6 + VERSION_JUMP_MAX + 1), 5, second))
    with pytest.raises(RuleError, match="too far above"):
        far = desk.file(6 + VERSION_JUMP_MAX + 1)
        desk.publish(desk.descriptor(second, 100, first, candidate=far))


def test_a_revert_holds_what_was_released_before(desk: Desk) -> None:
    first = desk.release(1, content="good")
    second = desk.release(2, first, content="bad")
    evil, good = desk.file(3, "evil"), desk.file(4, "good")
    with pytest.raises(RuleError, match="not a revert"):
        desk.publish(desk.descriptor(evil, 100, second), revert=1)
    with pytest.raises(RuleError, match="never released to all"):
        desk.publish(desk.descriptor(good, 100, second), revert=3)
    with pytest.raises(NeedsApproval):
        desk.publish(desk.descriptor(good, 100, second))
    desk.publish(desk.descriptor(good, 100, second), revert=1)
    assert desk.bench.service.read_log("", {"after": 0})["records"][-1]["facts"]["revert"] == 1


def test_reverts_are_rationed(desk: Desk) -> None:
    previous = desk.release(1)
    for n in range(2, 5):
        file = desk.file(n)
        desk.publish(desk.descriptor(file, 100, previous), revert=1)
        previous = file
    with pytest.raises(RateError, match="revert"):
        desk.publish(desk.descriptor(desk.file(5), 100, previous), revert=1)


def test_the_file_that_is_compared_is_the_file_that_is_signed(desk: Desk) -> None:
    desk.release(1, content="good")
    file = desk.file(2, "good")
    path = desk.bench.repository.path_of(file.path, file.sha256)
    path.write_bytes(base_file(2, "good") + b"more")
    with pytest.raises(RuleError, match="digest"):
        desk.publish(desk.descriptor(file, 100), revert=1)
    path.unlink()
    with pytest.raises(RuleError, match="cannot be compared"):
        desk.publish(desk.descriptor(file, 100), revert=1)


def test_the_signer_reads_what_it_signs(desk: Desk) -> None:
    file = desk.file(1)
    shown = desk.descriptor(file, 5)
    meant = desk.descriptor(file, 100).to_bytes()
    entry = {"length": len(meant), "sha256": hashlib.sha256(meant).hexdigest()}
    targets = {file.path: {"length": file.length, "sha256": file.sha256}, CURRENT: entry}
    for descriptor in ({"descriptor": shown.to_bytes().decode()}, {}):
        with pytest.raises(RuleError, match="has to be its content"):
            desk.bench.service.tuf_publish("publisher", {"targets": targets, "operator": "alice"} | descriptor)
    # and nothing of the base changes behind the descriptor's back
    desk.publish(shown)
    evil = desk.file(1, "evil")
    swap = {"targets": {evil.path: {"length": evil.length, "sha256": evil.sha256}}, "operator": "alice"}
    with pytest.raises(RuleError, match="change together with"):
        desk.bench.service.tuf_publish("publisher", swap)
    with pytest.raises(RuleError, match="change together with"):
        desk.bench.service.tuf_publish("publisher", {"targets": {}, "remove": [file.path], "operator": "alice"})


def test_a_descriptor_that_names_files_that_are_not_listed_is_refused(desk: Desk) -> None:
    file = desk.file(1)
    delta = Delta(1, 2, delta_path(1, 2), "ab" * 32, 10)
    data = desk.descriptor(file, 5, deltas=(delta,)).to_bytes()
    targets = {
        file.path: {"length": file.length, "sha256": file.sha256},
        CURRENT: {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()},
    }
    with pytest.raises(RuleError, match="do not agree"):
        desk.bench.service.tuf_publish(
            "publisher", {"targets": targets, "operator": "alice", "descriptor": data.decode()}
        )


@pytest.mark.parametrize("path", ["override/base-1.json", "keys/steering.json", "base/../x", "base/a/b", "x", "base/"])
def test_the_online_role_signs_its_own_paths_only(desk: Desk, path: str) -> None:
    with pytest.raises((MetadataError, RuleError)):
        desk.bench.service.tuf_publish(
            "publisher", {"targets": {path: {"length": 1, "sha256": "ab" * 32}}, "operator": "alice"}
        )


def test_policy_files_need_no_descriptor(desk: Desk) -> None:
    entry = {"length": 1, "sha256": "ab" * 32, "custom": {"v": 1}}
    answer = desk.bench.service.tuf_publish("publisher", {"targets": {"policy/x.json": entry}, "operator": "alice"})
    assert any(name.endswith(".base.json") for name in answer["files"])
    desk.bench.service.tuf_publish("publisher", {"targets": {}, "remove": ["policy/x.json"], "operator": "alice"})


def test_two_operators_let_a_base_go_to_all_at_once(desk: Desk) -> None:
    bench = desk.bench
    bench.operator("alice")
    bench.operator("bob")
    file = desk.file(1)
    request = desk.request(file)
    wanted = desk.descriptor(file, 100)

    def publish() -> None:
        desk.publish(wanted, emergency=True, approval=request["id"])

    with pytest.raises(NeedsApproval, match="approved by 0"):
        publish()
    for _again in range(2):  # the same person twice is one person
        assert bench.approve(request, "alice") == {"approved": 1, "needed": 2}
    with pytest.raises(NeedsApproval, match=r"approved by 1 operator"):
        publish()
    bench.approve(request, "bob")
    bench.restart()
    publish()
    with pytest.raises(NeedsApproval, match="used already"):
        other = desk.file(1)
        bench.service._state.releases.clear()
        desk.publish(desk.descriptor(other, 100), emergency=True, approval=request["id"])


def test_an_approval_is_for_that_base_and_that_time(desk: Desk) -> None:
    bench = desk.bench
    bench.operator("alice")
    bench.operator("bob")
    file, evil = desk.file(1), desk.file(2, "evil")
    request = desk.request(file)
    for name in ("alice", "bob"):
        bench.approve(request, name)
    with pytest.raises(NeedsApproval, match="something else"):
        desk.publish(desk.descriptor(evil, 100), emergency=True, approval=request["id"])
    with pytest.raises(NeedsApproval, match="no request"):
        desk.publish(desk.descriptor(file, 100), emergency=True, approval="00000000")
    bench.clock.now += 3601
    with pytest.raises(NeedsApproval, match="ended"):
        desk.publish(desk.descriptor(file, 100), emergency=True, approval=request["id"])
    with pytest.raises(RuleError, match="no open request"):
        bench.approve(request, "bob")


def test_only_an_operators_own_key_approves(desk: Desk) -> None:
    bench = desk.bench
    alice = bench.operator("alice")
    bench.operator("bob")
    request = desk.request(desk.file(1))
    with pytest.raises(RuleError, match="not bob's signature"):
        bench.approve(request, "bob", alice)
    with pytest.raises(RuleError, match="not an operator"):
        bench.approve(request, "mallory", Ed25519PrivateKey.generate())
    other = desk.request(desk.file(2))
    message = {"id": other["id"], "operator": "alice", "signature": "00" * 64}
    with pytest.raises(RuleError):
        bench.service.approve("x", message)
    # a signature over one request does not fit another
    bench.approve(request, "alice")
    record = bench.service.read_log("", {"after": 0})["records"][-1]
    with pytest.raises(RuleError):
        bench.service.approve("x", message | {"signature": record["facts"]["signature"]})


def test_one_person_with_two_names_is_still_one(desk: Desk) -> None:
    key = desk.bench.operator("alice")
    with pytest.raises(RuleError, match="belongs to an operator"):
        desk.bench.service.operator_add("root", {"name": "alice2", "public": dsse.public_bytes(key).hex()})


def test_a_removed_operators_approval_is_void(desk: Desk) -> None:
    bench = desk.bench
    for name in ("alice", "bob"):
        bench.operator(name)
    file = desk.file(1)
    request = desk.request(file)
    for name in ("alice", "bob"):
        bench.approve(request, name)
    bench.service.operator_remove("root", {"name": "bob"})
    with pytest.raises(NeedsApproval, match="approved by 1"):
        desk.publish(desk.descriptor(file, 100), emergency=True, approval=request["id"])
    assert list(bench.service.operators("", {})["operators"]) == ["alice"]


def test_an_approval_said_again_is_not_written_again(desk: Desk) -> None:
    bench = desk.bench
    bench.operator("alice")
    request = desk.request(desk.file(1))
    for _ in range(3):
        assert bench.approve(request, "alice") == {"approved": 1, "needed": 2}
    written = [record for record in bench.service.read_log("", {"after": 0})["records"] if record["op"] == "approve"]
    assert len(written) == 1, written


def test_requests_have_a_rate(desk: Desk) -> None:
    """Nobody fills the log, or the list that an operator reads in an emergency, faster than he reads."""
    file, bench = desk.file(1), desk.bench
    for _ in range(20):
        desk.request(file)
    with pytest.raises(RateError):
        desk.request(file)
    bench.clock.now += 181  # 20 an hour
    desk.request(file)
    with pytest.raises(RateError):
        desk.request(file)
    bench.clock.now += 3601
    assert len(desk.request(file)["id"]) == 8


@pytest.mark.parametrize(
    "change", [{"kind": "anything"}, {"body": {"version": 1}}, {"body": {"version": 1, "sha256": "ab" * 32, "x": 1}}]
)
def test_malformed_requests(desk: Desk, change: dict[str, Any]) -> None:
    right = {"kind": EMERGENCY_BASE, "body": emergency_body(1, "ab" * 32), "operator": "alice"}
    with pytest.raises(ContractError):
        desk.bench.service.request("publisher", right | change)


def test_who_may_call_what() -> None:
    """Ceremonies and operators are for root and the signer's own user: neither the console nor the publisher."""
    from vigie_department.config import Users, from_table
    from vigie_department.signer.daemon import operations

    table = {"domain": "vigie.test", "users": {"console": "c", "publisher": "p", "ingest": "i"}}
    config = from_table(table, Path("/x"))
    assert config.users == Users(console="c", publisher="p", ingest="i")

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return lambda peer, params: {}

    table_of = {name: op.allow.users for name, op in operations(Anything(), config).items()}  # type: ignore[arg-type]
    assert all(not op.allow.anybody and not op.allow.groups for op in operations(Anything(), config).values())  # type: ignore[arg-type]
    assert {name for name, users in table_of.items() if not users} == {
        "operator-add", "operator-remove", "next-keys", "install", "retire-steering",
    }  # fmt: skip
    assert {name for name, users in table_of.items() if "p" in users} == {
        "tuf-publish", "tuf-refresh", "tuf-current", "request", "approve", "requests", "operators", "log", "status",
    }  # fmt: skip
    assert {name for name, users in table_of.items() if "i" in users and "p" not in users} == {
        "sign-desired", "sign-command",
    }  # fmt: skip
