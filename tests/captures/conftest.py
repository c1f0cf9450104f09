"""Every capture at hand, unpacked into a folder that vanishes: they hold malware bytes, which stay inert data."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.captures import samples


@pytest.fixture(scope="session")
def captures(data_dir: Path | None) -> Iterator[list[Path]]:
    """Paths of the real captures (odd ones too), or of the samples made with Scapy where there is no real data."""
    archive = data_dir / "captures.tar.xz" if data_dir is not None else None
    if archive is None or not archive.is_file():
        yield sorted(samples.DATA.glob("*.pcap*"))
        return
    with tempfile.TemporaryDirectory(prefix="vigie-captures-") as name:
        folder = Path(name)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        for inner in sorted(folder.rglob("*.tar.xz")):
            with tarfile.open(inner) as tar:
                tar.extractall(inner.parent, filter="data")
            inner.unlink()
        yield sorted(path for path in folder.rglob("*") if path.suffix in (".pcap", ".pcapng"))
