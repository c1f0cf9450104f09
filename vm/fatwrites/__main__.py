"""Records it and writes the fixture of the power-cut model.

    flock LOCK python -m vm.fatwrites [--kernel FOLDER] [--out FILE]

FOLDER holds Image and modules/ (the virtual board's kernel by default). One machine starts with one recorded disk for
each way (init.c) and is gone after some seconds; root is not needed. Needs QEMU, the arm64 compiler, mkfs.fat, mtools.
"""

from __future__ import annotations

import argparse
import base64
import json
import lzma
import re
import subprocess
import tempfile
import zlib
from pathlib import Path

from vigie.update.boot import autoboot
from vm import blklog, debian
from vm.errors import VmError
from vm.initramfs import newc
from vm.layout import number
from vm.tools import ROOT, run

WAYS = ("exchange", "replace", "inplace", "direct")
MODULES = ("virtio_mmio", "virtio_pci", "virtio_blk", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1")
FIXTURE = ROOT / "tests" / "data" / "fatwrites.json"
SOURCE = Path(__file__).with_name("init.c")
LOG_BYTES = 64 << 20
TIMEOUT_S = 300
DONE = re.compile(r"FATWRITES done by Linux (\S+)")


def make_disk(path: Path, work: Path) -> None:
    """Partition 1 as board/common makes it, with slot A committed and a twin staged."""
    with path.open("wb") as file:
        file.truncate(number("SELECT_MIB") << 20)
    run(["mkfs.fat", "--invariant", "-F", "16", "-n", "VIGIE-SEL", path])
    for name in ("AUTOBOOT.TXT", "AUTOBOOT.NEW"):
        (work / name).write_bytes(autoboot.text("A"))
        run(["mcopy", "-m", "-i", path, work / name, f"::{name}"])


def make_initramfs(modules: Path, work: Path) -> Path:
    """Of init.c and the modules of that kernel."""
    program = work / "init"
    run([f"{debian.MULTIARCH}-gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-static", "-s",
         "-o", program, SOURCE])  # fmt: skip
    found = [("dev", 0o040755, b""), ("modules", 0o040755, b""), ("init", 0o100755, program.read_bytes())]
    names = []
    for path in debian.dependencies(modules, MODULES):
        data = (modules / path).read_bytes()
        name = Path(path).name
        if name.endswith(".xz"):
            name, data = name.removesuffix(".xz"), lzma.decompress(data)
        found.append((f"modules/{name}", 0o100644, data))
        names.append(f"/modules/{name}\n")
    image = work / "initramfs.img"
    image.write_bytes(newc([*found, ("modules/list", 0o100644, "".join(names).encode())]))
    return image


def record(kernel: Path, work: Path) -> tuple[str, dict[str, Path]]:
    """Release of the kernel that did it, and way -> log."""
    words = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-m", "512", "-nodefaults", "-display", "none"]
    words += ["-serial", "stdio", "-no-reboot", "-kernel", str(kernel / "Image")]
    words += ["-initrd", str(make_initramfs(kernel / "modules", work))]
    words += ["-append", f"console=ttyAMA0 quiet panic=-1 ways={','.join(WAYS)}"]
    logs = {}
    for at, way in enumerate(WAYS):
        disk, logs[way] = work / f"{way}.img", work / f"{way}.log"
        make_disk(disk, work)
        with logs[way].open("wb") as file:
            file.truncate(LOG_BYTES)
        words += [
            "-blockdev",
            f"driver=blklogwrites,node-name={way},file.driver=file,file.filename={disk},log.driver=file,"
            f"log.filename={logs[way]},log-sector-size=512,log-super-update-interval=1",
            "-device", f"virtio-blk-pci,drive={way},addr={at + 2}",
        ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    found = DONE.search(done.stdout)
    if found is None:
        raise VmError(f"the machine did not end its work:\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
    return found[1], logs


def fixture(kernel: str, work: Path, logs: dict[str, Path]) -> str:
    """JSON: the disk as it was (its written head), and of each way the list of writes; null is a flush."""
    fresh = work / "fresh.img"
    make_disk(fresh, work)
    image = fresh.read_bytes()
    ways = {}
    for way, log in logs.items():
        steps: list[list[object] | None] = []
        for entry in blklog.entries(log):
            if entry.flush:
                steps.append(None)
            if entry.data:
                steps.append([entry.offset, _packed(entry.data)])
            if entry.fua:
                steps.append(None)
        ways[way] = steps
    said = {
        "made by": "python -m vm.fatwrites", "kernel": kernel, "size": len(image), "disk": _packed(image.rstrip(b"\0")),
        "ways": ways,
    }  # fmt: skip
    return json.dumps(said, indent=1) + "\n"


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vm.fatwrites", description=__doc__)
    parser.add_argument("--kernel", type=Path, help="folder with Image and modules/")
    parser.add_argument("--out", type=Path, default=FIXTURE)
    arguments = parser.parse_args()
    kernel = arguments.kernel or debian.tree() / "kernel"
    with tempfile.TemporaryDirectory(prefix="fatwrites-") as name:
        work = Path(name)
        release, logs = record(kernel, work)
        text = fixture(release, work, logs)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    counts = {way: sum(step is not None for step in steps) for way, steps in json.loads(text)["ways"].items()}
    print(f"Linux {release}: writes {counts}; {arguments.out}")


if __name__ == "__main__":
    main()
