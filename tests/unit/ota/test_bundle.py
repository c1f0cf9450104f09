"""Bundles: the same bytes twice, what RAUC itself would write, and every damage seen.

`rauc` here is Debian's: it checks signature and payload as a box does, without device-mapper.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import releases
from tests.support.releases import PASSPHRASE, VERSION, Maker
from vigie.contract.firmware import BUNDLE_MAX, Version
from vigie_ota import tools
from vigie_ota.bundle import build, certificates, cms, container, verify
from vigie_ota.bundle.manifest import Manifest
from vigie_ota.errors import BundleError, OtaError, SignatureError, ToolError, UsageError


def rauc(*words: str | Path) -> str:
    """RAUC's own answer, as a box's configuration has it; AssertionError with its words."""
    done = subprocess.run(["rauc", *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def maker_conf(maker: Maker) -> list[str]:
    """`-c FILE`: the keyring part of ota/rauc/system.conf.in, with this authority."""
    template = (Path(__file__).parents[3] / "ota" / "rauc" / "system.conf.in").read_text()
    head = (
        template.split("[slot.")[0].replace("@BOARD@", "vm").replace("@BOOTLOADER@", "noop").replace("@HANDLERS@", "")
    )
    config = maker.folder / "system.conf"
    config.write_text(head.replace("/usr/share/vigie/trust/rauc.pem", str(maker.keyring)))
    return ["-c", str(config)]


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker.create(tmp_path_factory.mktemp("releases"))


def test_twice_the_same(maker: Maker, tmp_path: Path) -> None:
    """Everything but the signature, whose random number and time differ: payload, tree, manifest, its digest."""
    made = []
    for name in ("one", "two"):
        source = releases.images(tmp_path / name)
        os.utime(source / "rootfs.img", (1_000_000_000 + len(made), 1_500_000_000))
        target = tmp_path / f"{name}.raucb"
        manifest = build.build(source, target, maker.papers(), maker.signer)
        found = container.read(target)
        made.append((manifest, target.read_bytes()[: found.body], found.signature))
    assert made[0][:2] == made[1][:2]
    assert made[0][0].digest == made[1][0].digest
    assert made[0][2] != made[1][2]
    assert cms.verify(made[0][2], maker.keyring, "x") == cms.verify(made[1][2], maker.keyring, "x")


def test_other_content_other_manifest(maker: Maker) -> None:
    one, two = (verify.verify(maker.bundle(seed=seed), maker.keyring) for seed in (1, 2))
    assert one.manifest.digest != two.manifest.digest


def test_rauc_takes_it(maker: Maker, tmp_path: Path) -> None:
    """RAUC checks the signature for its purpose, then every byte against the hash tree, and gives back the images."""
    path = maker.bundle()
    told = json.loads(rauc(*maker_conf(maker), "info", "--output-format=json", path))
    assert (told["compatible"], told["version"]) == ("vigie-vm", "2026.12.1")
    images = {name: one for entry in told["images"] for name, one in entry.items()}
    assert {name: one["adaptive"] for name, one in images.items()} == {
        "rootfs": ["block-hash-index"], "boot": ["block-hash-index"]
    }  # fmt: skip
    rauc(*maker_conf(maker), "extract", path, tmp_path / "content")
    source = path.parent / f"in-vm-{VERSION}-1"
    for name in ("rootfs.img", "boot.vfat"):
        assert (tmp_path / "content" / name).read_bytes() == (source / name).read_bytes()
    papers = maker.papers()
    for name in (build.SBOM, build.CHANGELOG):
        assert (tmp_path / "content" / name).read_bytes() == papers[name].read_bytes()


def test_what_rauc_itself_would_write(maker: Maker, tmp_path: Path) -> None:
    """Against `rauc bundle` over the same images: the same block index, and the same manifest but for the salt."""
    own = verify.verify(maker.bundle(), maker.keyring)
    source = own.path.parent / f"in-vm-{VERSION}-1"
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", maker.files.key, "-passin", f"pass:{PASSPHRASE}", "-out", key],
        check=True,
        timeout=60,
    )
    theirs = tmp_path / "theirs.raucb"
    both = (source / "manifest.raucm").read_text() + "adaptive=block-hash-index\n"
    (tmp_path / "in").mkdir()
    for image in ("rootfs.img", "boot.vfat"):
        (tmp_path / "in" / image).write_bytes((source / image).read_bytes())
    (tmp_path / "in" / "manifest.raucm").write_text(both)
    rauc(f"--cert={maker.files.certificate}", f"--key={key}", "bundle", tmp_path / "in", theirs)
    signed = cms.verify(container.read(theirs).signature, maker.keyring, "theirs")
    theirs_manifest = Manifest.from_bytes(signed, "theirs")
    assert theirs_manifest.images == own.manifest.images
    assert theirs_manifest.to_bytes() == signed, "another order or spelling than RAUC's"
    rauc(*maker_conf(maker), "extract", theirs, tmp_path / "theirs")
    rauc(*maker_conf(maker), "extract", own.path, tmp_path / "own")
    for name in ("rootfs.img.block-hash-index", "boot.vfat.block-hash-index"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_verified(maker: Maker) -> None:
    found = verify.verify(maker.bundle(), maker.keyring)
    assert (found.board, found.version, found.length) == ("vm", VERSION, found.path.stat().st_size)
    told = found.described()
    assert (told.manifest, told.path) == (found.manifest.digest, "firmware/vigie-vm-2026.12.1.raucb")


def damage(path: Path, copy: Path, at: int) -> Path:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("where", ["payload", "tree", "signature", "first", "size"])
def test_one_bit(maker: Maker, tmp_path: Path, where: str) -> None:
    path = maker.bundle()
    found = verify.verify(path, maker.keyring)
    body = container.read(path).body
    verity = found.manifest.verity
    assert verity is not None
    at = {
        "payload": 200_000,
        "tree": body - verity.size + 100,
        "signature": body + 300,
        "first": 0,
        "size": found.length - 1,
    }[where]
    with pytest.raises(BundleError):
        verify.verify(damage(path, tmp_path / "x.raucb", at), maker.keyring)


@pytest.mark.parametrize("cut", [0, 3, 8, 4096, 300_000])
def test_truncated(maker: Maker, tmp_path: Path, cut: int) -> None:
    data = maker.bundle().read_bytes()
    path = tmp_path / "x.raucb"
    path.write_bytes(data[:cut] if cut < 10 else data[:-cut])
    with pytest.raises(BundleError, match="cut off"):
        verify.verify(path, maker.keyring)


def test_endless(maker: Maker, tmp_path: Path) -> None:
    path = tmp_path / "x.raucb"
    with path.open("wb") as file:
        file.truncate(BUNDLE_MAX + 1)
    with pytest.raises(BundleError, match="at most"):
        verify.verify(path, maker.keyring)


def test_another_authority(maker: Maker, tmp_path: Path) -> None:
    other = Maker.create(tmp_path)
    with pytest.raises(SignatureError, match="not signed by a release certificate"):
        verify.verify(other.bundle(), maker.keyring)


def test_manifest_of_one_on_the_payload_of_another(maker: Maker, tmp_path: Path) -> None:
    """A right signature, over something else."""
    one, two = container.read(maker.bundle(seed=1)), container.read(maker.bundle(seed=2))
    body = tmp_path / "body"
    body.write_bytes(two.path.read_bytes()[: two.body])
    container.write(tmp_path / "x.raucb", body, one.signature)
    with pytest.raises(BundleError, match="damaged"):
        verify.verify(tmp_path / "x.raucb", maker.keyring)


def test_a_certificate_for_something_else(maker: Maker, tmp_path: Path) -> None:
    """A certificate below the authority that is not for code: neither made with nor accepted."""
    with pytest.raises(UsageError, match="purpose"):
        cms.sign(b"x", maker.files.authority, maker.files.authority_key, PASSPHRASE)
    plain = tmp_path / "plain"
    certificates.create(plain, PASSPHRASE, PASSPHRASE)
    for path in (plain / "release.pem", plain / "release.key"):
        assert path.exists()
    with pytest.raises(ToolError, match="openssl"):
        cms.sign(b"x", maker.files.certificate, plain / "release.key", PASSPHRASE)
    with pytest.raises(ToolError, match="openssl"):
        cms.sign(b"x", maker.files.certificate, maker.files.key, "another passphrase")


MANIFESTS: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace("verity", "plain"), "only bundles of the format verity"),
    (lambda text: text.replace("2026.12.1", "0.1.0-dev"), r"YEAR\.MONTH\.N"),
    (lambda text: text.replace("vigie-vm", "other"), "compatible"),
    (lambda text: text + "\n[hooks]\nfilename=evil.sh\n", "unknown: hooks"),
    (lambda text: text + "\n[handler]\nfilename=evil.sh\n", "unknown: handler"),
    (lambda text: text + "\n[image.data]\nfilename=x\n", r"unknown: image\.data"),
    (lambda text: text.replace("rootfs.img", "../../etc/passwd"), "no plain file name"),
    (lambda text: text[: text.index("[image.boot]")], r"image\.boot"),
    (lambda text: text.replace("[update]", "[update]\ndescription=x"), "unknown: description"),
    (lambda text: text * 2, "already exists"),
    (lambda _: "\xff", "not a manifest"),
    (lambda text: text + "#" * 20_000, "larger than"),
]


@pytest.mark.parametrize(("change", "why"), MANIFESTS)
def test_other_manifests_are_not_packed(maker: Maker, tmp_path: Path, change: Callable[[str], str], why: str) -> None:
    source = releases.images(tmp_path / "in")
    manifest = source / "manifest.raucm"
    manifest.write_text(change(manifest.read_text()), encoding="latin-1")
    with pytest.raises(BundleError, match=why):
        build.build(source, tmp_path / "x.raucb", maker.papers(), maker.signer)
    assert not (tmp_path / "x.raucb").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_images_that_do_not_fit(maker: Maker, tmp_path: Path) -> None:
    source = releases.images(tmp_path / "in")
    for length, why in ((0, "bytes"), (5000, "multiple of 4096"), ((128 << 20) + 4096, "the slot boot has")):
        with (source / "boot.vfat").open("wb") as file:
            file.truncate(length)
        with pytest.raises(BundleError, match=why):
            build.build(source, tmp_path / "x.raucb", maker.papers(), maker.signer)
    (source / "boot.vfat").unlink()
    with pytest.raises(BundleError, match="missing"):
        build.build(source, tmp_path / "x.raucb", maker.papers(), maker.signer)


def test_papers_are_papers(maker: Maker, tmp_path: Path) -> None:
    found = releases.papers(tmp_path / "papers")
    for name, text, why in (
        (build.SBOM, "{}", "CycloneDX"),
        (build.SBOM, "x", "JSON"),
        (build.CHANGELOG, " ", "empty"),
    ):
        broken = dict(found) | {name: tmp_path / "broken"}
        (tmp_path / "broken").write_text(text)
        with pytest.raises(BundleError, match=why):
            build.check_papers(broken)
    with pytest.raises(BundleError, match="carries"):
        build.check_papers({build.SBOM: found[build.SBOM]})


def test_authority_and_certificate(tmp_path: Path) -> None:
    then = datetime(2020, 1, 1, tzinfo=UTC)
    files = certificates.create(tmp_path / "keys", PASSPHRASE, PASSPHRASE, then)
    assert files.key.stat().st_mode & 0o777 == files.authority_key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="never overwritten"):
        certificates.create(tmp_path / "keys", PASSPHRASE, PASSPHRASE)
    with pytest.raises(UsageError, match="12 characters"):
        certificates.create(tmp_path / "other", "short", PASSPHRASE)
    assert not (tmp_path / "other").exists()


def test_a_new_certificate_under_the_same_authority(tmp_path: Path) -> None:
    """The release key is lost or ends: boxes take the new one, and what the former signed, without a new image."""
    maker = Maker.create(tmp_path)
    before = maker.bundle(seed=1)
    with pytest.raises(UsageError, match="passphrase is wrong"):
        certificates.renew(maker.files.folder, "a wrong passphrase", PASSPHRASE)
    certificates.renew(maker.files.folder, PASSPHRASE, PASSPHRASE)
    after = maker.bundle(version=Version(2027, 1, 0), seed=2)
    for path in (before, after):
        verify.verify(path, maker.keyring)
        rauc(*maker_conf(maker), "info", path)
    assert certificates.load_certificate(maker.files.certificate) != certificates.load_certificate(
        maker.files.folder / "release-old.pem"
    )


def test_signed_elsewhere(maker: Maker, tmp_path: Path) -> None:
    """Half a kilobyte travels to the machine with the release key, not the bundle."""
    source = releases.images(tmp_path / "in")
    unsigned = build.pack(source, tmp_path / "body", maker.papers())
    text = unsigned.manifest.to_bytes()
    assert len(text) < 1024
    signature = cms.sign(text, maker.files.certificate, maker.files.key, PASSPHRASE)
    container.write(tmp_path / "x.raucb", unsigned.body, signature)
    assert verify.verify(tmp_path / "x.raucb", maker.keyring).manifest == unsigned.manifest
    with pytest.raises(OtaError, match="exists already"):
        build.pack(source, tmp_path / "body", maker.papers())


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_hostile_manifests(data: bytes) -> None:
    with pytest.raises(BundleError):
        Manifest.from_bytes(data, "x")


def test_years_in_a_cupboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate has ended since: a box judges it at the time of signing. One used after its end is refused."""
    keys = certificates.create(tmp_path / "offline", PASSPHRASE, PASSPHRASE, datetime(2015, 1, 1, tzinfo=UTC))
    maker = Maker(tmp_path, keys)
    late = maker.bundle(seed=1)
    then = ["faketime", "2016-05-01 12:00:00"]
    monkeypatch.setattr(cms, "run", lambda argv, **more: tools.run([*then, *argv], **more))
    in_time = maker.bundle(seed=2)
    rauc(*maker_conf(maker), "info", in_time)
    done = subprocess.run(["rauc", *maker_conf(maker), "info", late], capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    assert b"certificate has expired" in done.stderr
