"""Buildroot's recipes, run by GNU make with as much of Buildroot as they touch: what they install, and where.

The real Buildroot judges configuration and order (scripts/check-buildroot); the commands themselves run here, with this
machine's compilers, into a scratch target.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.unit.image.conftest import ROOT, UNITS, install, trust_folder, users

HARNESS = """\
BR2_EXTERNAL_VIGIE_PATH := {root}
BR2_PACKAGE_VIGIE_BPF := y
BR2_VIGIE_BOARD := "qemu"
BR2_VIGIE_TRUST := "{trust}"
BR2_VIGIE_BASE := ""
TARGET_DIR := {out}/target
HOST_DIR := {out}/host
STAGING_DIR := {out}/staging
BINARIES_DIR := {out}/images
INSTALL := install
TARGET_CC := cc
TARGET_CFLAGS := -O2
TARGET_LDFLAGS :=
TARGET_MAKE_ENV :=
CLANG_VERSION_MAJOR := 99
qstrip = $(strip $(subst ",,$(1)))
# One step of a package: its folder and name, as Buildroot's infrastructure gives them.
VIGIE_PKGDIR := {root}/package/vigie
python-package =
generic-package =
include {root}/package/vigie/vigie.mk
include {root}/package/vigie-bpf/vigie-bpf.mk

{build}/vigie {build}/vigie-bpf:
	rsync -au --chmod=u=rwX,go=rX $($(PKG)_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS) $($(PKG)_SITE)/ $@
{build}/vigie: PKG := VIGIE
{build}/vigie-bpf: PKG := VIGIE_BPF

.PHONY: vigie vigie-bpf users permissions excluded
vigie: @D = {build}/vigie
vigie: | {build}/vigie
	$(VIGIE_COPY_LICENSE)
	$(VIGIE_COMPILE_CATALOGUES)
	$(VIGIE_INSTALL_BOX)
vigie-bpf: @D = {build}/vigie-bpf
vigie-bpf: | {build}/vigie-bpf
	$(VIGIE_BPF_COPY_LICENSES)
	$(VIGIE_BPF_BUILD_CMDS)
	$(VIGIE_BPF_INSTALL_TARGET_CMDS)
users:
	$(info $(VIGIE_USERS))
	@:
permissions:
	$(info $(VIGIE_PERMISSIONS))
	@:
excluded:
	@echo $(VIGIE_BPF_BIN_ARCH_EXCLUDE)
"""


class Buildroot:
    """The harness and its folders."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.build = folder / "build"
        for made in (self.out / "target", self.out / "host/bin", self.out / "staging/usr/include", self.build):
            made.mkdir(parents=True)
        # Not a link: Python looks for its environment beside the program that was called.
        (self.out / "host/bin/python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (self.out / "host/bin/python3").chmod(0o755)
        for name, tool in (("clang-99.br_real", "clang-14"), ("llvm-strip", "llvm-strip-14")):
            found = shutil.which(tool) or shutil.which(tool.removesuffix("-14"))
            assert found, f"{tool} is missing: make setup"
            (self.out / "host/bin" / name).symlink_to(found)
        # This machine's headers play the toolchain's.
        include = self.out / "staging/usr/include"
        include.rmdir()
        include.symlink_to("/usr/include")
        makefile = folder / "Makefile"
        trust = trust_folder(folder / "trust")
        makefile.write_text(HARNESS.format(root=ROOT, out=self.out, build=self.build, trust=trust))
        self._makefile = makefile

    @property
    def target(self) -> Path:
        return self.out / "target"

    def make(self, goal: str, *words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["make", "-f", str(self._makefile), goal, *words],
            capture_output=True, text=True, check=False, timeout=110,
            env={key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done


def _machine(path: Path) -> bytes | None:
    """e_machine of an ELF file; None for any other."""
    head = path.read_bytes()[:20] if path.is_file() and not path.is_symlink() else b""
    return head[18:20] if head[:4] == b"\x7fELF" else None


@pytest.fixture(scope="module")
def buildroot(tmp_path_factory: pytest.TempPathFactory) -> Buildroot:
    """A scratch build."""
    return Buildroot(tmp_path_factory.mktemp("buildroot"))


def test_the_box_is_installed(buildroot: Buildroot) -> None:
    buildroot.make("vigie")
    target = buildroot.target
    for name in (
        "usr/lib/systemd/system/vigie-filter.service", "usr/lib/tmpfiles.d/vigie.conf",
        "usr/lib/sysctl.d/60-vigie.conf", "usr/lib/systemd/system/sysinit.target.wants/vigie-early.service",
        "usr/lib/udev/rules.d/90-vigie-guardian.rules",
        "usr/lib/vigie/vigie-storage", "usr/lib/vigie/guardian/main.py", "usr/share/vigie/base.img",
        "usr/share/vigie/trust/roots.pem", "usr/share/vigie/trust/build-time", "etc/vigie/guardian.json",
    ):  # fmt: skip
        assert (target / name).exists(), name
    assert "model: vigie-qemu" in (target / "etc/vigie/box.yaml").read_text()
    modes = {
        f"{path.stat().st_mode & 0o7777:o}" for path in target.rglob("*") if path.is_file() and not path.is_symlink()
    }
    assert modes == {"644", "755"}, "nothing is closed or writable by others in a read-only image"
    assert (buildroot.build / "vigie/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_holds_programs_texts_and_no_build_of_the_host(buildroot: Buildroot, tmp_path: Path) -> None:
    buildroot.make("vigie")
    copy = buildroot.build / "vigie"
    assert not (copy / "bpf/build").exists()
    # The back end that Buildroot calls, without isolation: nothing is fetched.
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=110, cwd=copy,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = {str(path.relative_to(ROOT / "firmware/src")) for path in (ROOT / "firmware/src/vigie").rglob("*.py")}
    assert source <= names, sorted(source - names)[:5]
    assert "vigie/locale/en/LC_MESSAGES/vigie.mo" in names, "pages would speak French alone"
    entry = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert "vigie = vigie.cli:main" in entry, "units call /usr/bin/vigie"


def test_the_same_sources_give_the_same_catalogues(buildroot: Buildroot) -> None:
    """Babel puts the time of day into each, which a reproducible image cannot have."""
    buildroot.make("vigie", "SOURCE_DATE_EPOCH=1790000000")
    catalogue = buildroot.build / "vigie/src/vigie/locale/en/LC_MESSAGES/vigie.mo"
    dates = re.findall(rb"-Date: (.*)\n", catalogue.read_bytes())
    assert dates and set(dates) == {b"2026-09-21 14:13+0000"}


@pytest.mark.slow
def test_the_data_path_is_built_apart_from_the_hosts(buildroot: Buildroot) -> None:
    buildroot.make("vigie-bpf", f"VIGIE_BPF_INCLUDES=-I/usr/include -I/usr/include/{os.uname().machine}-linux-gnu")
    target = buildroot.target / "usr/lib/vigie"
    assert (target / "filter.bpf.o").read_bytes()[:4] == b"\x7fELF"
    assert os.access(target / "vigie-early", os.X_OK)
    said = (buildroot.out / "images/filter.bpf.o.sha256").read_text().strip()
    assert said == hashlib.sha256((target / "filter.bpf.o").read_bytes()).hexdigest()
    assert not (buildroot.build / "vigie-bpf/build").exists()
    # Buildroot stops at a program of another processor, unless the recipe says where one may lie.
    excluded = buildroot.make("excluded").stdout.strip()
    own = _machine(target / "vigie-early")
    strange = [path for path in buildroot.target.rglob("*") if _machine(path) not in (None, own)]
    assert [path.name for path in strange] == ["filter.bpf.o"]
    assert strange[0].is_relative_to(buildroot.target / excluded.strip("/"))


def test_buildroot_reads_the_same_users(buildroot: Buildroot) -> None:
    """Nine fields a line. mkusers writes the last one into /etc/passwd as it is: a colon would make it two fields."""
    lines = [line for line in buildroot.make("users").stdout.splitlines() if line.strip()]
    assert len(lines) == len(users())
    for line in lines:
        assert len(line.split(None, 8)) == 9 and not set("'\"\\%$:") & set(line), line


def test_nothing_runs_as_somebody_else(buildroot: Buildroot) -> None:
    """Name, type, mode, owner and group, then what only devices have: a line takes the bit that another recipe sets."""
    lines = [line.split() for line in buildroot.make("permissions").stdout.splitlines() if line.strip()]
    assert {line[0] for line in lines} == {"/bin/busybox", "/usr/libexec/dbus-daemon-launch-helper"}
    assert all(line[1:] == ["f", "755", "0", "0", *"-----"] for line in lines)


# ---- install.sh alone -----------------------------------------------------------------------------------------------


def test_without_a_department_it_warns_and_goes_on(tmp_path: Path) -> None:
    done = install(tmp_path)
    assert done.returncode == 0
    assert "WARNING: no department" in done.stderr
    assert not (tmp_path / "usr/share/vigie/trust").exists()
    assert (tmp_path / "usr/share/vigie/base.img").exists(), "and filters with the base that it carries"


def test_a_later_build_without_a_department_keeps_nothing_of_the_earlier(tmp_path: Path) -> None:
    assert install(tmp_path, VIGIE_TRUST=str(trust_folder(tmp_path.with_name("trust")))).returncode == 0
    assert (tmp_path / "usr/share/vigie/trust/roots.pem").exists()
    assert install(tmp_path).returncode == 0
    assert not (tmp_path / "usr/share/vigie/trust").exists()


@pytest.mark.parametrize("missing", ["roots.pem", "tuf-root.json", "steering.json", "domain"])
def test_half_a_department_is_refused(tmp_path: Path, missing: str) -> None:
    trust = trust_folder(tmp_path / "trust")
    (trust / missing).unlink()
    (tmp_path / "target").mkdir()
    done = install(tmp_path / "target", VIGIE_TRUST=str(trust))
    assert done.returncode == 1 and f"{missing} is missing" in done.stderr


def test_a_private_key_never_reaches_an_image(tmp_path: Path) -> None:
    trust = trust_folder(tmp_path / "trust")
    (trust / "root.key").write_text("-----BEGIN EC PRIVATE KEY-----\n")
    (tmp_path / "target").mkdir()
    done = install(tmp_path / "target", VIGIE_TRUST=str(trust))
    assert done.returncode == 1 and "holds a private key" in done.stderr


def test_a_base_needs_its_image(tmp_path: Path) -> None:
    (tmp_path / "released.vgb").write_bytes(b"base")
    (tmp_path / "target").mkdir()
    done = install(tmp_path / "target", VIGIE_BASE=str(tmp_path / "released.vgb"))
    assert done.returncode == 1 and "released.img" in done.stderr


def test_an_unknown_board_is_refused(tmp_path: Path) -> None:
    done = install(tmp_path, VIGIE_BOARD="toaster")
    assert done.returncode == 1 and "cm4, qemu or vm" in done.stderr


def test_the_build_time_is_the_sources(target: Path) -> None:
    assert (target / "usr/share/vigie/trust/build-time").read_text() == "1790000000\n"


def test_the_carried_base_is_what_its_file_says(tmp_path: Path) -> None:
    """The image beside it is made by the code of today: a change of its layout is a change of both."""
    from vigie.filter.base_store import prepare

    folder = ROOT / "package/vigie/base"
    prepared = prepare(folder / "base.vgb", None)
    prepared.image.save(tmp_path / "base.img")
    prepared.close()
    assert (tmp_path / "base.img").read_bytes() == (folder / "base.img").read_bytes(), (
        "vigie base apply package/vigie/base/base.vgb --image package/vigie/base/base.img"
    )


def test_no_login_and_no_clock_from_strangers(target: Path) -> None:
    masked = {path.name for path in (target / "etc/systemd/system").iterdir() if path.is_symlink()}
    assert {"getty@.service", "serial-getty@.service", "debug-shell.service", "emergency.service"} <= masked
    assert {"systemd-timesyncd.service", "systemd-resolved.service"} <= masked
    assert all((target / "etc/systemd/system" / name).readlink() == Path("/dev/null") for name in masked)
    assert not [path for path in (target / UNITS).rglob("*") if "sshd" in path.name or "getty" in path.name]


def test_kernel_settings_are_known(target: Path) -> None:
    """sysctl.d(5): one that a kernel may lack has a minus, any other would fail systemd-sysctl.service."""
    lines = (target / "usr/lib/sysctl.d/60-vigie.conf").read_text().splitlines()
    settings = [line.partition("=") for line in lines if line and not line.startswith("#")]
    assert len(settings) > 20
    for name, equals, value in settings:
        assert equals and value.strip(), name
        if not name.startswith("-"):
            assert Path("/proc/sys", *name.strip().split(".")).exists(), f"{name}: unknown to this kernel"


def test_mounts_name_the_disk_that_the_image_has(target: Path) -> None:
    """One number in three places: the table of the image, fstab, vigie-storage."""
    layout = (ROOT / "board/common/layout.sh").read_text()
    number = re.search(r"DISK_SIGNATURE=(?:0x)?([0-9a-f]{8})", layout)
    assert number is not None, layout
    fstab = (target / "etc/fstab").read_text()
    assert f"PARTUUID={number[1]}-07  /identity" in fstab and f"PARTUUID={number[1]}-08  /data" in fstab
    assert f"DISK_ID={number[1]}\n" in (target / "usr/lib/vigie/vigie-storage").read_text()
