"""The image of the virtual board: Debian's part, the box's part, erofs, then the post-image script of every board."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vm import application, debian, initramfs
from vm.base import sample_base
from vm.errors import VmError
from vm.tools import BUILD, ROOT, digest, run
from vm.users import make_users

IMAGES = BUILD / "image"
# Everything that ends up in the image or decides how it is made.
INPUTS = (
    "firmware/src", "firmware/bpf", "firmware/guardian", "firmware/pyproject.toml", "package/vigie", "overlays/common",
    "overlays/qemu", "board/common", "board/qemu", "ota/rauc", "vm/overlay", "vm/initramfs", "vm/contents.py",
    "vm/debian.py", "vm/application.py", "vm/initramfs.py", "vm/users.py", "vm/image.py",
)  # fmt: skip
SOURCE_DATE = "1767225600"
"""of files in the image (2026-01-01): the same input gives the same image"""


def image(tell: Callable[[str], None]) -> Path:
    """Folder with vigie-vm.img and what it was made from; kept until one of its inputs changes."""
    base = sample_base()
    key = digest(*[ROOT / name for name in INPUTS], base, base.with_suffix(".img"), ROOT / "requirements.txt")
    with debian.alone("image"):
        folder = IMAGES / key
        if folder.exists():
            return folder
        start = time.monotonic()
        tell("the image is built ...")
        debian.cached(folder, lambda partial: _make(partial, base, tell))
        tell(f"image {key}: {time.monotonic() - start:.0f} s")
    return folder


def _make(out: Path, base: Path, tell: Callable[[str], None]) -> None:
    tell("Debian's packages ...")
    system = debian.tree()
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="work-") as name:
        work = Path(name)
        target = work / "target"
        tell("the box's software ...")
        run(["cp", "-a", system, target])
        kernel = work / "kernel"
        shutil.move(target / "kernel", kernel)
        application.install(target, base, work)
        _users_and_machine(target)
        out.mkdir()
        tell("initramfs, file system, disk ...")
        shutil.copy2(initramfs.build(target, kernel / "modules", work), out / "initramfs.img")
        shutil.copy2(kernel / "Image", out / "Image")
        uuid = "76696769-0000-4000-8000-000000000005"
        run(["mkfs.erofs", "-zlz4hc", f"-T{SOURCE_DATE}", "-U", uuid, out / "rootfs.erofs", target])
    run([ROOT / "board/common/post-image.sh", out, "vm"], env={"SOURCE_DATE_EPOCH": SOURCE_DATE, "HOST_DIR": ""})


def _users_and_machine(target: Path) -> None:
    make_users(target)
    if not (target / "etc/machine-id").read_text().strip():
        raise VmError("overlays/common/etc/machine-id is empty: a read-only root needs one")
