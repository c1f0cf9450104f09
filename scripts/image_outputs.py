"""What a build leaves for the department: the disk image, what the update bundle is made of, and the papers."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from scripts import buildroot
from scripts.buildroot import ROOT, ImageError, Tree, git_output, say

FORMAT: Final = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What was built, and where its files go (`out`; files of this name are replaced)."""

    tree: Tree
    board: str
    version: str
    dev: bool
    out: Path
    downloads: Path
    trust: Path | None

    @property
    def images(self) -> Path:
        return self.tree.output / "images"

    @property
    def stem(self) -> str:
        return f"vigie-{self.board}-{self.version}"


def collect(job: Job) -> list[Path]:
    """Writes everything and returns the paths, the manifest and the checksums last."""
    job.out.mkdir(parents=True, exist_ok=True)
    made = [_disk(job)]
    made += [_sbom(job), _legal(job)]
    manifest = job.out / f"{job.stem}.manifest.json"
    manifest.write_text(json.dumps(describe(job, made), indent=2, sort_keys=True) + "\n")
    made.append(manifest)
    sums = job.out / f"{job.stem}.sha256"
    sums.write_text("".join(f"{digest(path)}  {path.name}\n" for path in made))
    if not job.dev:
        _tell_bundle(job)
    return [*made, sums]


def describe(job: Job, files: list[Path]) -> dict[str, Any]:
    """The manifest: where each byte comes from, so that somebody else can make the same ones."""
    verity = json.loads(_needed(job.images / "verity.json").read_text())
    return {
        "format": FORMAT,
        "version": job.version,
        "board": job.board,
        "developer": job.dev,
        "source": {
            "commit": git_output(ROOT, ["rev-parse", "HEAD"]) or None,
            "changed": bool(git_output(ROOT, ["status", "--porcelain", "--untracked-files=no"])),
        },
        "buildroot": {"tag": buildroot.TAG, "commit": buildroot.COMMIT},
        "kernel": kernel_release(job.tree.output),
        "root_hash": verity["root_hash"],
        "bpf": {"path": "usr/lib/vigie/filter.bpf.o", "sha256": bpf_digest(job)},
        "trust": {path.name: digest(path) for path in sorted(job.trust.iterdir())} if job.trust else None,
        "files": {path.name: {"sha256": digest(path), "bytes": path.stat().st_size} for path in files},
    }


def bpf_digest(job: Job) -> str:
    """SHA-256 of the data path as compiled, which is what lies on the target; ImageError when they differ."""
    compiled = _needed(job.images / "filter.bpf.o.sha256").read_text().split()[0]
    installed = digest(_needed(job.tree.output / "target" / "usr/lib/vigie/filter.bpf.o"))
    if compiled != installed:
        raise ImageError(f"the data path on the target ({installed}) is not the one that was compiled ({compiled})")
    return compiled


def kernel_release(output: Path) -> str:
    """`6.12.61-vigie`, from the kernel's own record."""
    found = sorted((output / "build").glob("linux-*/include/config/kernel.release"))
    if len(found) != 1:
        raise ImageError(f"{output}/build: {len(found)} kernels built there, wanted one")
    return found[0].read_text().strip()


def digest(path: Path) -> str:
    """SHA-256, in hex, read in pieces: a disk image is larger than the memory of a build machine may be."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _disk(job: Job) -> Path:
    target = job.out / f"{job.stem}.img"
    _copy_sparse(_needed(job.images / f"vigie-{job.board}.img"), target)
    return target


def _tell_bundle(job: Job) -> None:
    """How the update bundle is made: where the release key is, which is not here."""
    folder = job.images / "bundle"
    _needed(folder / "manifest.raucm")
    out = job.out / job.stem
    say(
        f"the update bundle, on the machine with the release key: vigie-ota bundle build {folder} -o {out}.raucb "
        f"--sbom {out}.cdx.json --changelog {ROOT / 'CHANGELOG.md'} --offline STICK"
    )


def _sbom(job: Job) -> Path:
    """CycloneDX, by Buildroot's own converter; every package of the image with version, licence, source and CPE."""
    target = job.out / f"{job.stem}.cdx.json"
    info = job.tree.read("show-info")
    converter = job.tree.checkout / "utils" / "generate-cyclonedx"
    command = ["python3", str(converter), "--project-name", "vigie", "--project-version", job.version]
    # The converter keeps the list of licences that it needs in the download folder.
    environment = {**job.tree.env(), "BR2_DL_DIR": str(job.downloads)}
    done = subprocess.run(command, input=info, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"the bill of materials cannot be made ({done.returncode}): {done.stderr[-2000:]}")
    target.write_text(done.stdout)
    say(f"bill of materials: {len(json.loads(done.stdout).get('components', []))} components")
    return target


def _legal(job: Job) -> Path:
    """Licences and manifests of everything inside. The sources stay in the download folder: they are hundreds of MB."""
    job.tree.make("legal-info")
    target = job.out / f"{job.stem}.legal-info.tar.xz"
    folder = job.tree.output / "legal-info"

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if re.search(r"/(host-)?sources(/|$)", member.name):
            return None
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "root"
        return member

    with _beside(target) as part, tarfile.open(part, "w:xz") as archive:
        archive.add(_needed(folder), arcname=f"{job.stem}-legal-info", filter=keep)
    return target


def _copy_sparse(source: Path, target: Path) -> None:
    with _beside(target) as part:
        subprocess.run(["cp", "--sparse=always", str(source), str(part)], check=True)


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A name to write to, that becomes `target` when all went well."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _needed(path: Path) -> Path:
    if not path.exists():
        raise ImageError(f"{path}: not there after the build")
    return path
