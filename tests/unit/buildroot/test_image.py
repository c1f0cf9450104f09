"""scripts/image.py: what it refuses, what it hands to Buildroot, what it leaves. Buildroot here is a Makefile of a few
lines in a git repository, that answers to the same targets and writes files where the real one does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from scripts import buildroot, check_options, image
from scripts.buildroot import ImageError
from vigie.contract import firmware

MAKEFILE = r"""
.PHONY: defconfig all show-info legal-info
defconfig:
	cp $(BR2_DEFCONFIG) $(O)/.config
	echo $(SPOIL) >> $(O)/.config
.DEFAULT_GOAL := all
all:
	mkdir -p $(O)/images/bundle $(O)/target/usr/lib/vigie $(O)/build/linux-6.12/include/config $(O)/build/busybox-1
	printf "$$SOURCE_DATE_EPOCH" > $(O)/images/epoch
	printf object > $(O)/target/usr/lib/vigie/filter.bpf.o
	sha256sum < $(O)/target/usr/lib/vigie/filter.bpf.o > $(O)/images/filter.bpf.o.sha256
	printf '{"root_hash": "%s"}' abc > $(O)/images/verity.json
	printf '[update]\n' > $(O)/images/bundle/manifest.raucm
	truncate -s 4M $(O)/images/vigie-$$VIGIE_BOARD.img
	printf "$$VIGIE_VERSION" >> $(O)/images/vigie-$$VIGIE_BOARD.img
	printf 6.12.61-vigie > $(O)/build/linux-6.12/include/config/kernel.release
	sed 's/^# \(.*\) is not set/# \1 is not set/' $(BR2_EXTERNAL)/board/common/linux-box.fragment \
		$(BR2_EXTERNAL)/board/common/linux-hardening.fragment $(BR2_EXTERNAL)/board/cm4/linux.fragment \
		> $(O)/build/linux-6.12/.config
	cp $(BR2_EXTERNAL)/board/common/busybox.fragment $(O)/build/busybox-1/.config
	touch $(O)/build/linux-6.12/.stamp_kconfig_fixup_done $(O)/build/busybox-1/.stamp_kconfig_fixup_done
show-info:
	@echo '{"vigie": {}}'
legal-info:
	mkdir -p $(O)/legal-info/licenses $(O)/legal-info/sources
	echo EUPL > $(O)/legal-info/licenses/LICENSE
	echo big > $(O)/legal-info/sources/archive.tar
"""
CONVERTER = """import json, os, sys
info = json.load(sys.stdin)
print(json.dumps({"components": list(info), "version": sys.argv[-1], "dl": os.environ["BR2_DL_DIR"]}))
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "buildroot"
    (folder / "package").mkdir(parents=True)
    (folder / "utils").mkdir()
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "package" / "Config.in").write_text("")
    (folder / "utils" / "generate-cyclonedx").write_text(CONVERTER)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", buildroot.TAG)
    monkeypatch.setattr(buildroot, "COMMIT", git(folder, "rev-parse", "HEAD"))
    monkeypatch.setenv("VIGIE_IMAGE_DIR", str(tmp_path / "image"))
    monkeypatch.setenv("VIGIE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(image, "NEED_GIB", 0)
    monkeypatch.setattr(image, "TOOLS", {"make": "make", "git": "git"})
    return folder


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    folder = tmp_path / "trust"
    folder.mkdir()
    for name in image.TRUST_FILES:
        (folder / name).write_text(f"public {name}\n")
    return folder


def run(*arguments: str | Path) -> int:
    return image.main([str(argument) for argument in arguments])


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ImageError) as e:
        image.need_tools({"make": "make", "no-such-a": "package-a", "no-such-b": "package-b", "no-such-c": "package-a"})
    assert "missing: no-such-a, no-such-b, no-such-c" in str(e.value)
    assert "apt install package-a package-b" in str(e.value)


def test_the_tools_that_buildroot_wants_are_in_the_list() -> None:
    assert {"cpio", "unzip", "rsync", "bc", "file", "wget", "perl", "patch", "g++", "git"} <= set(image.TOOLS)


def test_a_release_without_trust_is_refused(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", "--buildroot", checkout) == 1
    assert "no TRUST" in capsys.readouterr().err


def test_a_trust_folder_that_is_not_whole_or_holds_a_key_is_refused(
    checkout: Path, trust: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trust / "domain").unlink()
    assert run("build", "--buildroot", checkout, "--trust", trust) == 1
    assert "domain missing" in capsys.readouterr().err
    (trust / "domain").write_text("vigie.example\n")
    (trust / "issuing.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert run("build", "--buildroot", checkout, "--trust", trust) == 1
    assert "issuing.pem holds a private key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--base", "no.vgb"), "wanted a base file"),
        (("--release", "2026.12.01"), "without leading zeros"),
        (("--release", "2026.12.1", "--dev"), "has a shell"),
        (("--board", "cm5"), "no such board. There are: cm4, qemu"),
    ],
)
def test_what_makes_no_sense_is_refused(
    checkout: Path, trust: Path, more: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", "--buildroot", checkout, "--trust", trust, *more) == 1
    assert text in capsys.readouterr().err


def test_a_release_is_built_from_a_commit(
    checkout: Path, trust: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_changed", lambda: True)
    assert run("build", "--buildroot", checkout, "--trust", trust, "--release", "2026.12.1") == 1
    assert "built from a commit" in capsys.readouterr().err


def test_versions_of_releases_are_those_of_the_contract() -> None:
    texts = ("2026.12.1", "2026.1.0", "2026.10.9999", "2026.12.01", "2026.13.1", "2026.0.1", "0.1.0", "2026.12.1\n")
    assert [bool(image.RELEASE.fullmatch(text)) for text in texts] == [
        bool(firmware.VERSION.fullmatch(text)) for text in texts
    ]


def test_another_commit_or_a_changed_file_is_not_our_buildroot(checkout: Path, tmp_path: Path) -> None:
    buildroot.verify(checkout)
    (checkout / "Makefile").write_text(MAKEFILE + "# changed\n")
    with pytest.raises(ImageError, match="files were changed"):
        buildroot.verify(checkout)
    git(checkout, "commit", "--quiet", "-am", "two")
    with pytest.raises(ImageError, match="wanted"):
        buildroot.verify(checkout)
    with pytest.raises(ImageError, match="no Buildroot there"):
        buildroot.verify(tmp_path)


def test_it_is_fetched_by_tag_and_judged_by_commit(checkout: Path, tmp_path: Path) -> None:
    target = tmp_path / "fetched"
    buildroot.fetch(target, f"file://{checkout}")
    assert git(target, "rev-parse", "HEAD") == buildroot.COMMIT
    assert git(target, "rev-list", "--count", "HEAD") == "1"
    buildroot.fetch(target, "file:///no/such/place")  # what is there already is enough
    git(checkout, "commit", "--quiet", "--allow-empty", "-m", "two")
    git(checkout, "tag", "--force", buildroot.TAG)
    with pytest.raises(ImageError, match="wanted"):
        buildroot.fetch(tmp_path / "again", f"file://{checkout}")
    assert not (tmp_path / "again").exists()


def test_a_release_leaves_everything_that_a_department_needs(
    checkout: Path, trust: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "b.vgb"
    for path in (base, base.with_suffix(".img")):
        path.write_text("x")
    monkeypatch.setattr(buildroot, "RELEASE_EXPECT", tmp_path / "none.expect")
    (tmp_path / "none.expect").write_text("")
    monkeypatch.setattr(image, "_changed", lambda: False)
    monkeypatch.setenv("MAKEFLAGS", "--no-builtin-rules")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    words = ("--trust", trust, "--base", base, "--release", "2026.12.1")
    assert run("build", "--buildroot", checkout, *words) == 0, capsys.readouterr()
    told = capsys.readouterr()
    made = [Path(line) for line in told.out.splitlines() if line.startswith("/")]
    stem = "vigie-cm4-2026.12.1"
    ends = ("img", "cdx.json", "legal-info.tar.xz", "manifest.json", "sha256")
    assert [path.name for path in made] == [f"{stem}.{end}" for end in ends]
    out = tmp_path / "image" / "out"

    config = (tmp_path / "image" / "cm4" / ".config").read_text()
    for line in (
        f'BR2_DL_DIR="{tmp_path}/cache/dl"',
        f'BR2_VIGIE_TRUST="{trust}"',
        f'BR2_VIGIE_BASE="{base}"',
        "BR2_CCACHE=y",
    ):
        assert line in config

    manifest = json.loads((out / f"{stem}.manifest.json").read_text())
    assert manifest["buildroot"] == {"tag": buildroot.TAG, "commit": buildroot.COMMIT}
    assert (manifest["kernel"], manifest["root_hash"]) == ("6.12.61-vigie", "abc")
    assert manifest["bpf"]["sha256"] == hashlib.sha256(b"object").hexdigest()
    assert sorted(manifest["trust"]) == sorted(image.TRUST_FILES)
    for name, described in manifest["files"].items():
        content = (out / name).read_bytes()
        assert described == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    sums = (out / f"{stem}.sha256").read_text().splitlines()
    assert len(sums) == 4
    assert all(hashlib.sha256((out / line[66:]).read_bytes()).hexdigest() == line[:64] for line in sums)

    disk = out / f"{stem}.img"
    assert disk.read_bytes().endswith(b"2026.12.1") and disk.stat().st_blocks * 512 < disk.stat().st_size
    assert (tmp_path / "image/cm4/images/epoch").read_text() == git(buildroot.ROOT, "log", "-1", "--format=%ct")
    assert f"vigie-ota bundle build {tmp_path}/image/cm4/images/bundle -o {out}/{stem}.raucb" in told.out + told.err
    assert json.loads((out / f"{stem}.cdx.json").read_text())["dl"] == f"{tmp_path}/cache/dl"
    with tarfile.open(out / f"{stem}.legal-info.tar.xz") as archive:
        names = archive.getnames()
    assert f"{stem}-legal-info/licenses/LICENSE" in names and not any("sources" in name for name in names)
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]


def test_a_developers_image_has_its_overlay_last_and_no_release_asks_for_it(tmp_path: Path) -> None:
    for board in buildroot.BOARDS.values():
        merged = tmp_path / board.name
        buildroot.write_defconfig(merged, *buildroot.dev_parts(board))
        last = check_options.configuration(merged.read_text())
        overlays = check_options.files_named(last, "BR2_ROOTFS_OVERLAY")
        assert [path.name for path in overlays] == ["common", board.name, "dev"]
        assert last["BR2_PACKAGE_STRACE"] == "y"
        assert "overlays/dev" not in board.path.read_text()


def test_a_dropped_option_stops_the_build(
    checkout: Path,
    trust: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (checkout / "Makefile").write_text(MAKEFILE.replace("$(SPOIL)", "'# BR2_PACKAGE_MICROPYTHON is not set'"))
    git(checkout, "commit", "--quiet", "-am", "spoilt")
    monkeypatch.setattr(buildroot, "COMMIT", git(checkout, "rev-parse", "HEAD"))
    assert run("build", "--buildroot", checkout, "--trust", trust) == 1
    shown = capsys.readouterr().err
    assert "options did not survive" in shown and "BR2_PACKAGE_MICROPYTHON=y is n" in shown
    assert not (tmp_path / "image" / "cm4" / "images").exists()


def test_a_target_of_buildroot_needs_a_configured_folder(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("br", "--buildroot", checkout, "show-info") == 1
    assert "not configured yet" in capsys.readouterr().err


def test_what_the_caller_exports_does_not_reach_buildroot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BR2_DL_DIR", "PYTHONPATH", "CFLAGS", "O"):
        monkeypatch.setenv(name, "spoilt")
    tree = buildroot.Tree(tmp_path, tmp_path, {"VIGIE_BOARD": "cm4"})
    environment = tree.env()
    assert "spoilt" not in environment.values() and environment["VIGIE_BOARD"] == "cm4"
    assert environment["PATH"] == os.environ["PATH"]
