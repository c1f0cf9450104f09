"""The initramfs: one static program and the modules that the box's own kernel has built in."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path

from vm import contents
from vm.debian import MULTIARCH, dependencies
from vm.tools import ROOT, run

MAGIC = b"070701"
SOURCE = ROOT / "vm" / "initramfs" / "init.c"


def newc(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An archive as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst).

    entries: name, mode with its file type, content. Numbers and times are fixed: same input, same bytes.
    """
    out = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        out += MAGIC + b"".join(b"%08X" % value for value in fields) + path
        out += bytes(-len(out) % 4)
        out += content
        out += bytes(-len(out) % 4)
    return bytes(out)


def build(target: Path, modules: Path, work: Path) -> Path:
    """initramfs.img in `work`. target: the image's tree; modules: Debian's whole module folder, with modules.dep."""
    program = work / "init"
    run(
        [
            f"{MULTIARCH}-gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-static", "-s",
            f"-ffile-prefix-map={ROOT}=.", "-Wl,--build-id=none", "-o", program, SOURCE,
        ]
    )  # fmt: skip
    entries = [("dev", 0o040755, b""), ("modules", 0o040755, b""), ("init", 0o100755, program.read_bytes())]
    listed = []
    for name, content in _modules(modules):
        entries.append((f"modules/{name}", 0o100644, content))
        listed.append(f"/modules/{name}\n")
    entries.append(("modules/list", 0o100644, "".join(listed).encode()))
    image = work / "initramfs.img"
    image.write_bytes(newc(entries))
    return image


def _modules(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in dependencies(folder, contents.EARLY_MODULES):
        data = (folder / path).read_bytes()
        name = Path(path).name
        if name.endswith(".xz"):
            name, data = name.removesuffix(".xz"), lzma.decompress(data)
        yield name, data
