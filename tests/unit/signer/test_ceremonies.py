"""Keys made, renewed, replaced: what boxes hold in their image leads to what is signed today."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Root, Targets

from vigie.contract import dsse
from vigie.contract.base import OVERRIDE_TYPE, STEERING, Override
from vigie.contract.trust import SteeringKeys
from vigie_department.signer import keys, offline, tufstate
from vigie_department.signer import metadata as tuf
from vigie_department.signer.client import files_of
from vigie_department.signer.errors import KeyFileError, MetadataError, RuleError
from vigie_department.signer.keyfiles import read_online_key
from vigie_department.signer.keys import Proposal
from vigie_department.signer.tufstate import TufState

from .conftest import NOW, PASSPHRASES, Bench, box


def state(bench: Bench) -> TufState:
    return tufstate.from_files(files_of(bench.service.tuf_current("", {})))


def install(bench: Bench, proposal: Proposal) -> TufState:
    for path, data in proposal.files.items():
        bench.repository.add(path, data)
    return tufstate.from_files(files_of(bench.service.install("root", {"proposal": proposal.to_bytes().decode()})))


def test_keys_lie_where_only_their_owner_reads_them(bench: Bench) -> None:
    paths = bench.config.paths
    private = [*paths.offline.glob("*.pem"), *paths.signer.rglob("*.pem")]
    assert len(private) == 9
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for folder in (paths.offline, paths.signer, *(p for p in paths.signer.rglob("*") if p.is_dir())):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for n in range(1, 6):
        assert b"ENCRYPTED PRIVATE KEY" in (paths.offline / f"keyholder-{n}.pem").read_bytes()


def test_a_key_is_opened_by_its_own_passphrase_only(bench: Bench) -> None:
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        offline.open_keys(bench.config.paths.offline, lambda n: PASSPHRASES[n % 5])


def test_one_keyholder_alone_does_nothing(bench: Bench, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (bench.config.paths.offline / "keyholder-3.pem").rename(stick / "keyholder-3.pem")
    with pytest.raises(KeyFileError, match="2 are needed"):
        offline.open_keys(stick, lambda n: PASSPHRASES[n - 1])
    with pytest.raises(KeyFileError, match="2 are needed"):
        bench.holders(1, 1)


def test_short_passphrases_and_second_creations_are_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="exist already"):
        keys.create(bench.config, tmp_path / "other", PASSPHRASES)
    with pytest.raises(KeyFileError, match="12 characters"):
        offline.create(tmp_path / "other", ["short"] * 5)
    with pytest.raises(KeyFileError, match="5 are needed"):
        offline.create(tmp_path / "third", PASSPHRASES[:4])


def test_an_online_key_that_others_can_read_is_refused(bench: Bench) -> None:
    path = bench.store.keys / "steering.pem"
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="others than its owner"):
        read_online_key(path)
    with pytest.raises(KeyFileError, match="others than its owner"):
        bench.restart()


def test_the_trust_files_of_the_image_verify_what_is_served(bench: Bench) -> None:
    trust = bench.config.paths.trust
    root = tuf.parse(Root, (trust / "tuf-root.json").read_bytes(), "root")
    assert root.signed.consistent_snapshot
    assert {name: (role.threshold, len(role.keyids)) for name, role in root.signed.roles.items()} == {
        "root": (2, 5), "targets": (2, 5), "snapshot": (1, 1), "timestamp": (1, 1),
    }  # fmt: skip
    steering = SteeringKeys.from_bytes((trust / "steering.json").read_bytes())
    assert (len(steering.online), len(steering.second), steering.second_threshold) == (1, 5, 2)
    assert set(steering.second.values()) == {holder.public for holder in bench.holders(1, 2, 3, 4, 5)}
    tuf.check_targets(root, state(bench).targets)


def test_renewal_prolongs_root_and_targets(bench: Bench) -> None:
    bench.clock.now += 300 * 86400
    before = state(bench)
    proposal = keys.propose_root(before, bench.store.steering(), bench.clock.now).signed(bench.holders(1, 4))
    after = install(bench, proposal)
    assert sorted(after.roots) == [1, 2]
    assert after.expires()["root"] > before.expires()["root"]
    assert after.expires()["targets"] > before.expires()["targets"]
    tuf.check_new_root(before.root, after.roots[2])


def test_new_online_keys_sign_everything_at_once_and_the_old_steering_key_goes_on(bench: Bench) -> None:
    old = bench.store.steering()
    before = state(bench)
    public = {role: bytes.fromhex(text) for role, text in bench.service.next_keys("root", {})["public"].items()}
    assert bench.service.next_keys("root", {})["public"] == {role: key.hex() for role, key in public.items()}
    proposal = keys.propose_root(before, old, bench.clock.now, online=public)
    after = install(bench, proposal.signed(bench.holders(2, 3)))
    for role, key in (("timestamp", public["timestamp"]), ("snapshot", public["snapshot"])):
        assert after.root.signed.roles[role].keyids == [tuf.tuf_key(key).keyid]
    for again in (False, True):
        if again:
            bench.restart()
        envelope = bench.sign(bench.desired(box(1), 2 if again else 1))
        new = bench.store.steering()
        assert list(new.online.values()) == [public["steering"]]
        new.verify(envelope, dsse.DESIRED_TYPE)
        old.verify(envelope, dsse.DESIRED_TYPE)
    bench.service.retire_steering("root", {})
    envelope = bench.sign(bench.desired(box(1), 3))
    new.verify(envelope, dsse.DESIRED_TYPE)
    assert len(envelope.signatures) == 1
    bench.service.tuf_refresh("publisher", {})


def test_a_rotation_cut_short_at_any_step_is_finished_by_the_next_start(bench: Bench) -> None:
    before = state(bench)
    public = {role: bytes.fromhex(text) for role, text in bench.service.next_keys("root", {})["public"].items()}
    proposal = keys.propose_root(before, bench.store.steering(), bench.clock.now, online=public)
    data = proposal.signed(bench.holders(1, 2)).to_bytes()
    for path, content in proposal.files.items():
        bench.repository.add(path, content)
    bench.stop()
    # as if the power went after `begin`, and again after two of the four renames
    (bench.store.folder / "incoming.json").write_bytes(data)
    for role in ("steering", "base"):
        (bench.store.next / f"{role}.pem").rename(bench.store.keys / f"{role}.pem")
    after = state(bench)
    assert sorted(after.roots) == [1, 2]
    assert not (bench.store.folder / "incoming.json").exists()
    assert not list(bench.store.next.glob("*.pem"))
    bench.restart()
    bench.service.tuf_refresh("publisher", {})
    assert list(bench.store.steering().online.values()) == [public["steering"]]


def test_a_lost_keyholder_is_replaced_by_two_of_the_others(bench: Bench, tmp_path: Path) -> None:
    new = offline.create_one(tmp_path / "..", 5, "une nouvelle phrase secrète") if False else None
    folder = tmp_path / "new"
    folder.mkdir()
    new = offline.create_one(folder, 5, "une nouvelle phrase secrète")
    before = state(bench)
    proposal = keys.propose_root(before, bench.store.steering(), bench.clock.now, keyholders={5: new.public})
    after = install(bench, proposal.signed(bench.holders(1, 2)))
    old_five = (
        bench.holders(5)[0]
        if False
        else offline.open_some(bench.config.paths.offline, lambda n: PASSPHRASES[n - 1], [5])[0]
    )
    with pytest.raises(KeyFileError, match="not one of the five"):
        keys.check_numbers(after.root.signed, [old_five])
    keys.check_numbers(after.root.signed, [new])
    assert new.public in bench.store.steering().second.values()
    assert old_five.public not in bench.store.steering().second.values()
    # the new one may now sign with any other
    proposal = keys.propose_targets(after, bench.clock.now, {"keys/x.json": b"{}"})
    install(bench, proposal.signed([new, *bench.holders(3, 4)[:1]]))


@pytest.mark.parametrize("signers", [[], [1]])
def test_too_few_signatures_change_nothing(bench: Bench, signers: list[int]) -> None:
    before = state(bench)
    holders = bench.holders(1, 2)[: len(signers)]
    proposal = keys.propose_targets(before, bench.clock.now, {"override/base-7.json": b"{}"}).signed(holders)
    with pytest.raises(MetadataError, match="2 are needed"):
        install(bench, proposal)
    assert state(bench) == before


def test_an_old_or_skipped_version_is_refused(bench: Bench) -> None:
    proposal = keys.propose_targets(state(bench), NOW, {"keys/a.json": b"1"}).signed(bench.holders(1, 2))
    install(bench, proposal)
    with pytest.raises(MetadataError, match="version 2 where 3"):
        install(bench, proposal)
    current = state(bench).root
    ahead = replace(keys.propose_root(state(bench), bench.store.steering(), NOW))
    root = tuf.parse(Root, ahead.root or b"", "root")
    root.signed.version = current.signed.version + 2
    root.signatures.clear()
    skipped = Proposal("x", root=root.to_bytes()).signed(bench.holders(1, 2))
    with pytest.raises(MetadataError, match="version 3 where 2"):
        install(bench, skipped)


def test_targets_that_take_the_delegation_away_are_refused(bench: Bench) -> None:
    before = state(bench)
    targets = tuf.parse(Targets, before.targets, "targets")
    targets.signed.version += 1
    assert targets.signed.delegations is not None and targets.signed.delegations.roles is not None
    targets.signed.delegations.roles["base"].paths = ["*"]
    targets.signatures.clear()
    with pytest.raises(MetadataError, match="does not delegate"):
        install(bench, Proposal("x", targets=targets.to_bytes()).signed(bench.holders(1, 2)))


def test_a_root_with_keys_that_the_signer_does_not_have_is_refused(bench: Bench) -> None:
    public = {role: bytes([n]) * 32 for n, role in enumerate(("timestamp", "snapshot", "base", "steering"), 1)}
    proposal = keys.propose_root(state(bench), bench.store.steering(), NOW, online=public)
    with pytest.raises(MetadataError, match="another key"):
        install(bench, proposal.signed(bench.holders(1, 2)))


def test_a_proposal_whose_files_are_not_served_is_refused(bench: Bench) -> None:
    proposal = keys.propose_targets(state(bench), NOW, {"override/base-7.json": b"{}"}).signed(bench.holders(1, 2))
    with pytest.raises(RuleError, match="not in the repository"):
        bench.service.install("root", {"proposal": proposal.to_bytes().decode()})


def test_offline_keys_sign_only_offline_paths(bench: Bench) -> None:
    with pytest.raises(MetadataError, match="nothing else"):
        keys.propose_targets(state(bench), NOW, {"base/base-1.vgb": b""})


def test_a_proposal_is_signed_by_one_person_after_the_other(bench: Bench) -> None:
    proposal = keys.propose_targets(state(bench), NOW, {"keys/a.json": b"1"})
    first = Proposal.from_bytes(proposal.to_bytes()).signed(bench.holders(1, 2)[:1])
    second = Proposal.from_bytes(first.to_bytes()).signed(bench.holders(4, 5)[:1])
    assert any("keys/a.json: 1 bytes" in line for line in second.describe())
    assert "keys/a.json" in install(bench, second).offline_files()


def test_an_override_is_signed_twice_over(bench: Bench) -> None:
    content = keys.override_envelope(12, "ab" * 32, bench.holders(1, 2))
    payload = dsse.verify(content, bench.store.steering().second, 2, OVERRIDE_TYPE)
    assert Override.from_bytes(payload) == Override(12, "ab" * 32)


def test_the_steering_file_travels_as_a_target(bench: Bench) -> None:
    info = state(bench).offline_files()[STEERING]
    assert bench.repository.path_of(STEERING, info.sha256).read_bytes() == bench.store.steering_file.read_bytes()


def test_only_what_is_half_over_is_signed_again(bench: Bench) -> None:
    first = state(bench)
    bench.clock.now += 3600
    bench.service.tuf_refresh("publisher", {})
    second = state(bench)
    assert (second.snapshot, second.base) == (first.snapshot, first.base)
    assert second.versions.timestamp > first.versions.timestamp
    bench.clock.now += 8 * 86400
    bench.service.tuf_refresh("publisher", {})
    third = state(bench)
    assert third.snapshot != first.snapshot and third.base == first.base
    bench.clock.now += 31 * 86400
    bench.service.tuf_refresh("publisher", {})
    assert state(bench).base != first.base


def test_versions_follow_the_clock_so_that_a_restored_signer_is_not_behind(bench: Bench) -> None:
    bench.clock.now += 1000
    bench.service.tuf_refresh("publisher", {})
    assert state(bench).versions.timestamp == int(bench.clock.now)
    bench.clock.now -= 500  # a clock that goes back
    bench.service.tuf_refresh("publisher", {})
    assert state(bench).versions.timestamp == NOW + 1001
