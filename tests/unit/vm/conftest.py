"""Inputs of post-image.sh: real file systems of a few files, boot files whose content does not matter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm.tools import ROOT

EPOCH = "1767225600"
SCRIPT = ROOT / "board/common/post-image.sh"


def make_inputs(folder: Path, board: str) -> None:
    """BINARIES_DIR as Buildroot leaves it before the post-image script."""
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=vigie\n")
    (tree / "blob").write_bytes(bytes(range(256)) * 4096)
    subprocess.run(
        ["mkfs.erofs", "-zlz4hc", f"-T{EPOCH}", "-U", "76696769-0000-4000-8000-000000000005",
         str(folder / "rootfs.erofs"), str(tree)],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "Image").write_bytes(b"kernel" * 1000)
    if board == "cm4":
        overlays = folder / "rpi-firmware" / "overlays"
        overlays.mkdir(parents=True)
        for name in ("start4.elf", "fixup4.dat"):
            (folder / "rpi-firmware" / name).write_bytes(name.encode() * 100)
        for line in (ROOT / "board/cm4/config.txt").read_text().splitlines():
            if line.startswith("dtoverlay="):
                name = line.removeprefix("dtoverlay=").split(",")[0]
                (overlays / f"{name}.dtbo").write_bytes(b"overlay")
        (overlays / "overlay_map.dtb").write_bytes(b"map")
        (folder / "bcm2711-rpi-cm4.dtb").write_bytes(b"tree")
    else:
        (folder / "initramfs.img").write_bytes(b"initramfs")


def post_image(folder: Path, board: str, epoch: str = EPOCH) -> subprocess.CompletedProcess[str]:
    """Run it as Buildroot does."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "SOURCE_DATE_EPOCH": epoch}
    return subprocess.run(
        [str(SCRIPT), str(folder), board], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture(scope="session", params=["cm4", "qemu"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A board and the folder in which its image was made."""
    board = str(request.param)
    folder = tmp_path_factory.mktemp(board)
    make_inputs(folder, board)
    done = post_image(folder, board)
    assert done.returncode == 0, done.stdout + done.stderr
    return board, folder
