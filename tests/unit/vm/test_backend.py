"""ota/rauc: the CM4's boot backend as RAUC calls it, and the configuration of each board."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

from vm.tools import ROOT

BACKEND = ROOT / "ota/rauc/boot-backend"


def backend(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin", "VIGIE_BOOT_STATE": str(folder / "state"), "VIGIE_CMDLINE": str(folder / "cmdline"),
    }  # fmt: skip
    return subprocess.run([str(BACKEND), *argv], capture_output=True, text=True, env=environment, check=False)


def test_what_was_set_is_read_back(tmp_path: Path) -> None:
    assert backend(tmp_path, "set-primary", "B").returncode == 0
    assert backend(tmp_path, "get-primary").stdout == "B\n", "the slot that was noted, or RAUC would overwrite it"
    assert backend(tmp_path, "get-state", "B").stdout == "good\n"
    assert backend(tmp_path, "set-state", "B", "bad").returncode == 0
    assert backend(tmp_path, "get-state", "B").stdout == "bad\n"
    assert backend(tmp_path, "get-state", "A").stdout == "good\n"


def test_current_is_what_the_kernel_was_told(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_text("quiet rauc.slot=B vigie.roothash=00 ro\n")
    assert backend(tmp_path, "get-current").stdout == "B\n"


@pytest.mark.parametrize("argv", [(), ("set-primary", "C"), ("set-state", "A", "ugly"), ("get-state",), ("boot",)])
def test_nonsense_is_refused_and_changes_nothing(tmp_path: Path, argv: tuple[str, ...]) -> None:
    done = backend(tmp_path, *argv)
    assert done.returncode == 2 and done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("board", "bootloader"), [("cm4", "custom"), ("qemu", "uboot"), ("vm", "uboot")])
def test_configuration_of_each_board(tmp_path: Path, board: str, bootloader: str) -> None:
    (tmp_path / "etc").mkdir()
    for _ in range(2):  # Buildroot may call it again over the same folder
        subprocess.run(
            [str(ROOT / "board/common/post-build.sh"), str(tmp_path), board], check=True,
            env={"PATH": "/usr/bin:/bin", "VIGIE_VERSION": "1.2.3"},
        )  # fmt: skip
    text = (tmp_path / "etc/rauc/system.conf").read_text()
    assert "@" not in text
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert parser["system"]["compatible"] == f"vigie-{board}" and parser["system"]["bootloader"] == bootloader
    assert parser["system"]["bundle-formats"] == "-plain"
    devices = {name: parser[name]["device"][-2:] for name in parser.sections() if name.startswith("slot.")}
    assert devices == {"slot.boot.0": "02", "slot.rootfs.0": "05", "slot.boot.1": "03", "slot.rootfs.1": "06"}
    assert (tmp_path / "usr/lib/rauc/boot-backend").exists() is (board == "cm4")
    assert (tmp_path / "etc/fw_env.config").exists() is (board != "cm4")
    release = dict(line.split("=", 1) for line in (tmp_path / "etc/os-release").read_text().splitlines())
    assert (release["VERSION_ID"], release["VARIANT_ID"], release["ID"]) == ("1.2.3", board, "vigie")
    link = tmp_path / "usr/lib/systemd/system/multi-user.target.wants/vigie-boot-good.service"
    assert link.resolve().exists()
