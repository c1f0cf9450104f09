"""The archive that the kernel unpacks, the order of modules, the program that mounts the root."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from vm import contents, debian
from vm.errors import VmError
from vm.initramfs import SOURCE, newc
from vm.tools import ROOT


def test_archive_is_read_by_cpio(tmp_path: Path) -> None:
    entries = [("dev", 0o040755, b""), ("init", 0o100755, b"program"), ("modules/list", 0o100644, b"x" * 5001)]
    done = subprocess.run(
        ["cpio", "-itv", "--quiet"], input=newc([*entries[:2], ("modules", 0o040755, b""), entries[2]]),
        capture_output=True, check=True,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert [(row[0], row[4], row[-1]) for row in rows] == [
        ("drwxr-xr-x", "0", "dev"), ("-rwxr-xr-x", "7", "init"),
        ("drwxr-xr-x", "0", "modules"), ("-rw-r--r--", "5001", "modules/list"),
    ]  # fmt: skip


def test_same_entries_same_bytes() -> None:
    assert newc([("a", 0o100644, b"1")]) == newc([("a", 0o100644, b"1")])


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "modules.dep").write_text(
        "kernel/d/dm-verity.ko.xz: kernel/d/dm-bufio.ko.xz kernel/d/dm-mod.ko.xz\n"
        "kernel/d/dm-bufio.ko.xz: kernel/d/dm-mod.ko.xz\n"
        "kernel/d/dm-mod.ko.xz:\nkernel/n/bridge.ko.xz: kernel/n/stp.ko.xz kernel/n/llc.ko.xz\n"
        "kernel/n/stp.ko.xz: kernel/n/llc.ko.xz\nkernel/n/llc.ko.xz:\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/v/virtio_pci.ko\n")
    return tmp_path


def test_a_module_comes_after_what_it_needs(modules: Path) -> None:
    order = debian.dependencies(modules, ["virtio_pci", "dm_verity", "bridge"])
    names = [Path(path).name.split(".")[0] for path in order]
    assert names == ["dm-mod", "dm-bufio", "dm-verity", "llc", "stp", "bridge"]


def test_a_module_that_does_not_exist_is_named(modules: Path) -> None:
    with pytest.raises(VmError, match="no module nosuch"):
        debian.dependencies(modules, ["nosuch"])


def test_the_program_is_free_of_warnings(tmp_path: Path) -> None:
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-o", str(tmp_path / "init"), str(SOURCE)],
        check=True,
    )


def test_no_build_of_a_release_refers_to_the_virtual_board() -> None:
    """Its shell and its trust from the identity partition are in no image that Buildroot makes."""
    trees = [ROOT / name for name in ("configs", "package", "overlays", "external.mk", "Config.in")]
    files = [path for tree in trees for path in ([tree] if tree.is_file() else tree.rglob("*")) if path.is_file()]
    assert files
    words = re.compile(r"vigie-vm|(?<![\w/.-])vm/(overlay|initramfs)")
    assert [str(path) for path in files if words.search(path.read_text(errors="replace"))] == []


def test_lists_name_nothing_twice() -> None:
    for names in (contents.PACKAGES, contents.WHEELS, contents.DROPPED, contents.DROPPED_UNITS, contents.UDEV_RULES):
        assert len(set(names)) == len(names)
