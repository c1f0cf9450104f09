"""From bundles to what a box finds: the ceremony by USB, real metadata, a real TUF client, and what is refused."""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.releases import PASSPHRASE, VERSION, Maker, images, papers
from vigie.contract.firmware import Version, bundle_path
from vigie_ota.bundle import verify

from .conftest import World

pytestmark = [pytest.mark.integration]

NEXT = Version(2027, 1, 0)


def test_the_whole_way(world: World) -> None:
    """Two boards, two sticks, and a box that has never heard of the department before."""
    bundles = [world.maker.bundle("vm"), world.maker.bundle("cm4")]
    assert world.seen(VERSION) is None
    world.release(*bundles, floor="2026.11.0", earliest="2026-12-01T06:00")
    found = world.seen(VERSION)
    assert found is not None
    assert (str(found.floor), found.earliest, sorted(found.bundles)) == ("2026.11.0", 1_796_104_800, ["cm4", "vm"])
    for bundle in bundles:
        checked = verify.verify(bundle, world.maker.keyring)
        told = found.bundles[checked.board]
        served = world.config.paths.repository / told.path
        assert served.read_bytes() == bundle.read_bytes()
        assert (told.manifest, told.length) == (checked.manifest.digest, served.stat().st_size)
    shown = json.loads(world.ota("release", "show", "--json"))
    assert [(one["version"], one["problems"]) for one in shown] == [("2026.12.1", [])]


def test_published_again_is_harmless(world: World) -> None:
    bundle = world.maker.bundle()
    request = world.request(world.descriptor(bundle))
    signatures = world.sign(request, 2, 3)
    world.publish(request, signatures, bundle)
    before = {path: path.stat().st_mtime_ns for path in world.config.paths.repository.rglob("*") if path.is_file()}
    assert "was published already" in world.publish(request, signatures, bundle)
    changed = [
        path.name
        for path in world.config.paths.repository.rglob("*")
        if path.is_file() and path.name != "timestamp.json" and before.get(path) != path.stat().st_mtime_ns
    ]
    assert changed == []
    # a disk that lost the bundle gets it back the same way
    (world.config.paths.repository / bundle_path("vm", VERSION)).write_bytes(b"damaged")
    assert "PROBLEM" in world.ota("release", "show", code=1)
    world.publish(request, signatures, bundle)
    world.ota("release", "show", "2026.12.1")


def test_a_release_after_another(world: World) -> None:
    world.release(world.maker.bundle())
    world.release(world.maker.bundle(version=NEXT, seed=2), floor="2026.12.1", requires="2026.12.1")
    assert world.seen(VERSION) is not None
    after = world.seen(NEXT)
    assert after is not None
    assert after.requires == VERSION


def test_killed_between_signer_and_repository(world: World) -> None:
    """The signer put it in force and the server died before the metadata was out: the same command finishes."""
    bundle = world.maker.bundle()
    request = world.request(world.descriptor(bundle))
    signatures = world.sign(request, 1, 2)
    world.publish(request, signatures, bundle)
    metadata = world.repository.metadata
    lost = [path for path in metadata.iterdir() if path.name.startswith("2.targets")] + [metadata / "timestamp.json"]
    for path in lost:
        path.unlink()
    world.stop(signal.SIGKILL)
    world.start()
    world.publish(request, signatures, bundle)
    assert world.seen(VERSION) is not None


def test_compromise_below_the_threshold(world: World) -> None:
    """One stolen stick, or the whole server: no box ever sees a release."""
    bundle = world.maker.bundle()
    request = world.request(world.descriptor(bundle))
    said = world.publish(request, world.sign(request, 5), bundle, code=1)
    assert "signed by 1 keyholders, 2 are needed" in said
    assert world.seen(VERSION) is None
    assert not (world.config.paths.repository / bundle_path("vm", VERSION)).exists()


def test_bundle_by_another_key(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    evil = Maker.create(tmp_path_factory.mktemp("evil"))
    said = world.ota(
        "descriptor", evil.bundle(), "-o", world.folder / "x.json", "--keyring", world.maker.keyring,
        "--note-fr", "x", "--note-en", "x", code=1,
    )  # fmt: skip
    assert "not signed by a release certificate" in said


def test_swapped_behind_valid_metadata(world: World) -> None:
    """A bundle of the same version and board, rightly signed, that is not the one the keyholders signed for."""
    bundle = world.maker.bundle()
    request = world.request(world.descriptor(bundle))
    signatures = world.sign(request, 1, 2)
    said = world.publish(request, signatures, world.maker.bundle(seed=7), code=1)
    assert "another bundle than the one that was signed" in said
    for given, why in (
        ([], "bundles are given for none"),
        ([world.maker.bundle("cm4")], "bundles are given for cm4"),
        ([bundle, world.maker.bundle(version=NEXT)], "which the request does not add"),
    ):
        assert why in world.publish(request, signatures, *given, code=1)
    truncated = world.folder / "short.raucb"
    truncated.write_bytes(bundle.read_bytes()[:-100])
    assert "cut off" in world.publish(request, signatures, truncated, code=1)
    assert world.seen(VERSION) is None


def test_older_and_out_of_date(world: World) -> None:
    world.release(world.maker.bundle(version=NEXT, seed=2))
    older = world.folder / "r.json"
    said = world.ota("sign", "request", older, world.descriptor(world.maker.bundle()), code=1)
    assert "2027.1.0 is published" in said
    # two requests from one state: the second was made for metadata that is past
    late, later = (Version(2027, 2, n) for n in (0, 1))
    one, two = (world.request(world.descriptor(world.maker.bundle(version=v))) for v in (late, later))
    world.publish(one, world.sign(one, 1, 2), world.maker.bundle(version=late))
    said = world.publish(two, world.sign(two, 1, 2), world.maker.bundle(version=later), code=1)
    assert "make a new one" in said


def test_full_disk(world: World) -> None:
    """Bundles come first: where they do not fit, no metadata speaks of them."""
    bundle = world.maker.bundle()
    request = world.request(world.descriptor(bundle))
    signatures = world.sign(request, 1, 2)
    (world.config.paths.repository / "firmware").write_text("in the way", encoding="utf-8")
    world.publish(request, signatures, bundle, code=1)
    assert world.seen(VERSION) is None


def test_withdrawn(world: World) -> None:
    """The release is no target any more: a box that has not begun cannot begin. Its number is not used again."""
    bundle = world.maker.bundle()
    world.release(bundle)
    request = world.folder / "withdraw.json"
    world.ota("sign", "request", request, "--withdraw", "2026.12.1")
    world.publish(request, world.sign(request, 1, 2))
    assert world.seen(VERSION) is None
    other = world.maker.bundle(seed=9)
    request = world.request(world.descriptor(other))
    said = world.publish(request, world.sign(request, 1, 2), other, code=1)
    assert "a number is never used again" in said


def test_bundles_by_command(world: World) -> None:
    """Keys, build, verify; and with the release key on another machine."""
    keys, trust = world.folder / "release-keys", world.folder / "trust"
    words = world.folder / "words"
    words.write_text(f"{PASSPHRASE} A\n{PASSPHRASE} R\n", encoding="utf-8")
    world.ota("keys", "create", keys, "--trust", trust, "--passphrases", words)
    source, paper = images(world.folder / "in"), papers(world.folder / "papers")
    common = ["--sbom", paper["sbom.cdx.json"], "--changelog", paper["CHANGELOG.md"]]
    one = world.folder / "one.raucb"
    world.ota("bundle", "build", source, "-o", one, *common, "--offline", keys, "--passphrases", words)
    told = world.ota("bundle", "verify", one, "--keyring", trust / "rauc.pem", "--json")
    two = world.folder / "two.raucb"
    world.ota("bundle", "build", source, "-o", two, *common, "--unsigned")
    carried = world.folder / "two.raucb.manifest"
    world.ota("bundle", "sign", carried, "--offline", keys, "--passphrases", words)
    world.ota("bundle", "finish", two, world.folder / "two.raucb.cms", "--keyring", trust / "rauc.pem")
    again = world.ota("bundle", "verify", two, "--keyring", trust / "rauc.pem", "--json")
    assert json.loads(told)["manifest"] == json.loads(again)["manifest"]
    world.ota("keys", "renew", keys, "--passphrases", words)
    world.ota("bundle", "verify", one, "--keyring", trust / "rauc.pem")
