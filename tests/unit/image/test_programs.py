"""What the box's shell scripts call is in the image, by the option of Buildroot that brings it.

The virtual board is made of Debian's packages, which have everything: a program that Buildroot's image lacks would show
nowhere else.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.image.conftest import PACKAGE, ROOT

FRAGMENT = (ROOT / "board/common/busybox.fragment").read_text()
# In both boards' configurations.
OPTIONS = {
    "blkid": "BR2_PACKAGE_UTIL_LINUX_BINARIES",
    "e2fsck": "BR2_PACKAGE_E2FSPROGS",
    "mkfs.ext4": "BR2_PACKAGE_E2FSPROGS",
    "mount": "BR2_PACKAGE_UTIL_LINUX_BINARIES",
    "partx": "BR2_PACKAGE_UTIL_LINUX_PARTX",
    "rauc": "BR2_PACKAGE_RAUC",
    "resize2fs": "BR2_PACKAGE_E2FSPROGS_RESIZE2FS",
    "sfdisk": "BR2_PACKAGE_UTIL_LINUX_BINARIES",
    "systemctl": "BR2_INIT_SYSTEMD",
    "systemd-tmpfiles": "BR2_INIT_SYSTEMD",
    "udevadm": "BR2_INIT_SYSTEMD",
}


def words(path: Path) -> set[str]:
    """Every word of a script outside its comments; a program's name among them, if it is called."""
    text = re.sub(r"(?m)(^|\s)#.*$", "", path.read_text())
    return set(re.findall(r"(?<![\w./-])[a-z][\w.-]*\w(?![\w/-])", text))


def scripts() -> list[Path]:
    """All shell scripts that a box runs, and the units' own commands."""
    found = [path for path in PACKAGE.iterdir() if path.name.startswith("vigie-") and not path.suffix]
    return [*found, ROOT / "ota/rauc/boot-backend", ROOT / "ota/rauc/vigie-boot-good.service"]


@pytest.mark.parametrize("board", ["cm4", "qemu_aarch64"])
@pytest.mark.parametrize("program", OPTIONS)
def test_what_a_script_calls_is_in_the_image(board: str, program: str) -> None:
    callers = [path.name for path in scripts() if re.search(rf"\b{re.escape(program)}\b", " ".join(words(path)))]
    text = " ".join(path.read_text() for path in scripts())
    assert callers or f"/{program} " in text, f"{program} is not called any more"
    asked = (ROOT / f"configs/vigie_{board}_defconfig").read_text().splitlines()
    assert f"{OPTIONS[program]}=y" in asked, f"{', '.join(callers)}: {program}"


def test_what_a_script_calls_of_busybox_stays_in() -> None:
    """CONFIG_ names the applet. `reboot` and the like are systemd's."""
    off = set(re.findall(r"^# CONFIG_([A-Z]+) is not set$", FRAGMENT, re.MULTILINE))
    called = {word.upper() for path in scripts() for word in words(path)}
    assert {"GREP", "SED", "CUT"} <= called and "PASSWD" in off
    assert not called & off
