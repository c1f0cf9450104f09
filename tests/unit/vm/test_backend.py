"""ota/rauc: the CM4's boot backend as RAUC calls it, and the configuration of each board."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from vm.tools import ROOT

BACKEND = ROOT / "ota/rauc/boot-backend"


def test_the_backend_is_the_box_s_own_program(tmp_path: Path) -> None:
    """What it does: tests/unit/update/boot/test_backend.py."""
    (tmp_path / "cmdline").write_text("quiet rauc.slot=B ro\n")
    names = {f"VIGIE_BOOT_{name.upper()}": str(tmp_path / name) for name in ("state", "cmdline", "said")}
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **names}
    done = subprocess.run([str(BACKEND), "get-current"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "B\n"), done.stderr


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
    units = tmp_path / "usr/lib/systemd/system"
    assert (units / "multi-user.target.wants/vigie-boot-good.service").resolve().exists()
    # A trial is not committed by a mere start: not where a trial is a start like any other.
    judge = units / "multi-user.target.wants/vigie-boot-start.service"
    assert judge.resolve().exists() is (board == "cm4")
    assert (units / "vigie-boot-good.service.d/trial.conf").exists() is (board == "cm4")
