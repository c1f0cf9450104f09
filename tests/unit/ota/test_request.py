"""The ceremony: what keyholders are shown, what is refused before they see it, and who signed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import TargetFile, Targets

from tests.support import department
from vigie.contract.dsse import public_bytes
from vigie.contract.firmware import Bundle, FirmwareDescriptor, Severity, Version, bundle_path, firmware_path
from vigie_department.config import Config
from vigie_department.signer import keys, metadata, offline
from vigie_department.signer.ceremony import Ceremony
from vigie_department.signer.offline import Keyholder
from vigie_department.signer.store import Store
from vigie_department.signer.tufstate import TufState
from vigie_ota.errors import CeremonyError, OtaError, ReleaseError
from vigie_ota.publish import request as ceremony
from vigie_ota.publish.descriptor import check_follows
from vigie_ota.publish.request import Request

PASSPHRASES = [f"une phrase secrète {n}" for n in range(1, 6)]


def release(version: str, floor: str = "2026.1.0", requires: str | None = None, **boards: str) -> FirmwareDescriptor:
    """A descriptor; boards: board -> two hex digits of its manifest's digest."""
    number = parse(version)
    return FirmwareDescriptor(
        version=number,
        bundles={b: Bundle(d * 32, bundle_path(b, number), 1000) for b, d in (boards or {"cm4": "ab"}).items()},
        floor=parse(floor),
        requires=None if requires is None else parse(requires),
        severity=Severity.NORMAL,
        earliest=0,
        note_fr="Corrige.",
        note_en="Fixes.",
    )


def parse(text: str) -> Version:
    return Version(*(int(part) for part in text.split(".")))


@dataclass
class World:
    """Keys and metadata of a department; `put` plays the signer, which the tests of publishing have for real."""

    config: Config
    published: dict[str, bytes]

    @property
    def store(self) -> Store:
        return Store(self.config.paths.signer)

    @property
    def state(self) -> TufState:
        return self.store.load_tuf()

    def holders(self, *numbers: int) -> list[Keyholder]:
        return offline.open_some(self.config.paths.offline, lambda n: PASSPHRASES[n - 1], numbers)

    def request(self, *releases: FirmwareDescriptor, remove: tuple[str, ...] = ()) -> Request:
        return ceremony.make(self.state, self.published, add=releases, remove=remove)

    def put(self, request: Request, *numbers: int) -> None:
        judged = ceremony.judge(request)
        files = {str(n): ceremony.sign(judged, self.holders(n)) for n in numbers}
        proposal = ceremony.assemble(request, judged, files)
        step = Ceremony(self.store, keys.days(self.config.signer))
        step.prepare(self.state, proposal.to_bytes())
        step.begin(proposal.to_bytes())
        step.finish(1_800_000_000)
        self.published |= proposal.files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = department.write(tmp_path_factory.mktemp("d"), "vigie.test")
    keys.create(config, config.paths.offline, PASSPHRASES)
    return config


@pytest.fixture
def world(made: Config) -> World:
    return World(made, {})


@pytest.fixture
def own(tmp_path: Path) -> World:
    config = department.write(tmp_path / "d", "vigie.test")
    keys.create(config, config.paths.offline, PASSPHRASES)
    return World(config, {})


def test_two_of_five_by_usb(own: World) -> None:
    """Request to bytes and back, two signatures from two machines, then a second release on top of it."""
    request = Request.from_bytes(own.request(release("2026.12.1")).to_bytes())
    own.put(request, 2, 5)
    assert firmware_path(parse("2026.12.1")) in own.state.offline_files()
    own.put(own.request(release("2027.1.0", floor="2026.12.1")), 1, 3)
    assert {"firmware/2026.12.1.json", "firmware/2027.1.0.json"} <= set(own.state.offline_files())
    withdrawn = own.request(remove=("firmware/2027.1.0.json",))
    assert ceremony.judge(withdrawn).removed == ("firmware/2027.1.0.json",)
    own.put(withdrawn, 1, 2)
    assert "firmware/2027.1.0.json" not in own.state.offline_files()


def test_one_alone_is_not_enough(world: World) -> None:
    request = world.request(release("2026.12.1"))
    judged = ceremony.judge(request)
    once = ceremony.sign(judged, world.holders(4))
    with pytest.raises(CeremonyError, match="signed by 1 keyholders, 2 are needed"):
        ceremony.assemble(request, judged, {"a": once, "the same again": once})


def test_signatures_of_another_request(world: World) -> None:
    one, two = world.request(release("2026.12.1")), world.request(release("2026.12.2"))
    signed = ceremony.sign(ceremony.judge(one), world.holders(1, 2))
    with pytest.raises(CeremonyError, match="signatures of another request"):
        ceremony.assemble(two, ceremony.judge(two), {"stick": signed})
    claimed = json.loads(signed) | {"digest": ceremony.judge(two).digest}
    with pytest.raises(CeremonyError, match=r"stick: the signature of \w{8} is wrong"):
        ceremony.assemble(two, ceremony.judge(two), {"stick": json.dumps(claimed).encode()})


def test_a_stranger_signs(world: World) -> None:
    request = world.request(release("2026.12.1"))
    judged = ceremony.judge(request)
    stranger = Keyholder(3, Ed25519PrivateKey.generate())
    with pytest.raises(CeremonyError, match=r"keyholder-3\.pem is not one"):
        ceremony.sign(judged, [stranger])
    for odd in ("", "zz", "00", "00" * 64, None, 5):
        signed = json.loads(ceremony.sign(judged, world.holders(1, 2)))
        signed["signatures"][0]["sig"] = odd
        with pytest.raises(CeremonyError, match="is wrong"):
            ceremony.assemble(request, judged, {"stick": json.dumps(signed).encode()})
    signed = json.loads(ceremony.sign(judged, world.holders(1, 2)))
    signed["signatures"][1]["keyid"] = metadata.tuf_key(public_bytes(stranger.key)).keyid
    with pytest.raises(CeremonyError, match="no keyholder"):
        ceremony.assemble(request, judged, {"stick": json.dumps(signed).encode()})


@pytest.mark.parametrize("data", [b"", b"[]", b'{"v":1}', b'{"v":2}', b"\xff", b"[" * 100_000])
def test_files_that_are_something_else(world: World, data: bytes) -> None:
    with pytest.raises(CeremonyError, match="not a request"):
        Request.from_bytes(data)
    request = world.request(release("2026.12.1"))
    with pytest.raises(CeremonyError, match="not a file of signatures"):
        ceremony.assemble(request, ceremony.judge(request), {"stick": data})


def slip(change: Callable[[Targets], None]) -> Callable[[Request], Request]:
    """A request whose targets a stolen server changed before it was carried away."""

    def changed(request: Request) -> Request:
        assert request.proposal.targets is not None
        targets = metadata.parse(Targets, request.proposal.targets, "x")
        change(targets.signed)
        return replace(request, proposal=replace(request.proposal, targets=targets.to_bytes()))

    return changed


def other_base_key(targets: Targets) -> None:
    key = metadata.tuf_key(public_bytes(Ed25519PrivateKey.generate()))
    assert targets.delegations is not None
    assert targets.delegations.roles
    targets.delegations.keys = {key.keyid: key}
    targets.delegations.roles["base"].keyids = [key.keyid]


def one_path_more(targets: Targets) -> None:
    assert targets.delegations is not None
    assert targets.delegations.roles
    targets.delegations.roles["base"].paths = ["base/*", "policy/*", "firmware/*"]


def steering(targets: Targets) -> None:
    targets.targets["keys/steering.json"].hashes["sha256"] = "00" * 32


def override(targets: Targets) -> None:
    targets.targets["override/base-9.json"] = TargetFile(1, {"sha256": "00" * 32}, "override/base-9.json")


def other_descriptor(targets: Targets) -> None:
    targets.targets["firmware/2026.12.1.json"].hashes["sha256"] = "00" * 32


def unseen(targets: Targets) -> None:
    targets.targets["firmware/2026.12.9.json"] = TargetFile(1, {"sha256": "00" * 32}, "firmware/2026.12.9.json")


def leap(targets: Targets) -> None:
    targets.version += 1


SLIPPED: list[tuple[Callable[[Request], Request], str]] = [
    (slip(other_base_key), "another key"),
    (slip(one_path_more), "other paths"),
    (slip(steering), r"keys/steering\.json: the request changes it"),
    (slip(override), r"override/base-9\.json: the request adds or removes it"),
    (slip(other_descriptor), "not what targets.json lists"),
    (slip(unseen), "content is missing"),
    (slip(leap), "where 2 is expected"),
    (
        lambda request: replace(request, proposal=replace(request.proposal, targets=request.targets)),
        "where 2 is expected",
    ),
    (lambda request: replace(request, proposal=replace(request.proposal, root=request.root)), "changes root"),
    (lambda request: replace(request, targets=request.root), "does not hold together"),
]


@pytest.mark.parametrize(("change", "why"), SLIPPED)
def test_what_a_stolen_server_might_slip_in(world: World, change: Callable[[Request], Request], why: str) -> None:
    request = Request.from_bytes(change(world.request(release("2026.12.1"))).to_bytes())
    with pytest.raises(OtaError, match=why):
        ceremony.judge(request)


def test_unsigned_past(world: World) -> None:
    """The list in force comes with its own signatures: a made-up past would hide what changes."""
    request = world.request(release("2026.12.1"))
    raw = json.loads(request.to_bytes())
    raw["targets"]["signatures"] = raw["targets"]["signatures"][:1]
    with pytest.raises(CeremonyError, match="signed by 1"):
        ceremony.judge(Request.from_bytes(json.dumps(raw).encode()))


def test_hidden_past(own: World) -> None:
    """The floor that is published cannot be left out of the request."""
    own.put(own.request(release("2026.12.1", floor="2026.12.1")), 1, 2)
    with pytest.raises(CeremonyError, match=r"2026\.12\.1\.json: its content is missing"):
        ceremony.make(own.state, {}, add=[release("2026.12.2")])
    with pytest.raises(ReleaseError, match=r"floor 2026\.1\.0 is below 2026\.12\.1"):
        own.request(release("2026.12.2"))


FORMER = [release("2026.11.0"), release("2026.12.1", floor="2026.11.0", vm="01", cm4="02")]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"version": "2026.12.1", "floor": "2026.11.0"}, r"2026\.12\.1 is published"),
    ({"version": "2026.11.5", "floor": "2026.11.0"}, r"2026\.12\.1 is published"),
    ({"version": "2026.12.2", "floor": "2026.10.0"}, "only rises"),
    ({"version": "2027.3.0", "floor": "2026.12.1", "requires": "2027.2.0"}, r"requires 2027\.2\.0 on cm4"),
]


@pytest.mark.parametrize(("parts", "why"), REFUSED)
def test_what_may_not_follow(parts: dict[str, Any], why: str) -> None:
    with pytest.raises(ReleaseError, match=why):
        check_follows(release(**parts), FORMER)


def test_what_may_follow() -> None:
    check_follows(release("2026.12.2", floor="2026.11.0", requires="2026.12.1"), FORMER)
    check_follows(release("2026.1.0", requires="2025.1.0"), [])


def test_the_one_who_signs_reads_what_it_is(world: World) -> None:
    lines = "\n".join(ceremony.judge(world.request(release("2026.12.1", cm4="cd"))).describe())
    for text in (
        "NEW release 2026.12.1: normal",
        "cm4: 1000 bytes, manifest " + "cd" * 32,
        "floor 2026.1.0",
        "Corrige.",
    ):
        assert text in lines


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def test_hostile_requests(world: World) -> None:
    """Whatever stands anywhere in a request: a sentence, never a traceback in front of the keyholder."""
    data = world.request(release("2026.12.1")).to_bytes()
    judged = 0
    for number in range(len(list(places(json.loads(data))))):
        for value in (None, -1, [], {}, "ab" * 32):
            document = json.loads(data)
            holder, key = list(places(document))[number]
            holder[key] = value
            with contextlib.suppress(OtaError):
                ceremony.judge(Request.from_bytes(json.dumps(document).encode()))
                judged += 1
    assert judged > 0, "words that nobody signs or reads may differ"
