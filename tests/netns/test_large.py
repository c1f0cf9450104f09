"""Jumbo frames and segmentation offload: large frames pass, contents unharmed.

pc (MTU 9000) -- lan -- lan0 [ box ] wan0 -- router -- internet, every link at 9000
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from lab import plan
from lab.clients import tls
from tests.netns.town import Town, open_town

MTU = 9000
SIZE = 40_000_000


@pytest.fixture(scope="module", params=[True, False], ids=["offload", "no-offload"])
def jumbo_town(request: pytest.FixtureRequest) -> Iterator[Town]:
    """Every link at 9000 bytes."""
    with open_town(offload=request.param, mtu=MTU) as made:
        yield made


@pytest.mark.parametrize("address", [plan.TOWN.v4, plan.TOWN.v6])
def test_jumbo_frames_pass(jumbo_town: Town, address: str) -> None:
    overhead = 48 if ":" in address else 28
    argv = ["ping", "-n", "-c", "3", "-i", "0.1", "-W", "1", "-M", "do", "-s", str(MTU - overhead), address]
    jumbo_town.lab["pc"].run(*argv).require()


@pytest.mark.parametrize("address", [plan.TOWN.v4, plan.TOWN.v6])
def test_large_transfer_is_unharmed(jumbo_town: Town, address: str) -> None:
    download(jumbo_town, address)


@pytest.mark.parametrize("address", [plan.TOWN.v4, plan.TOWN.v6])
def test_segmentation_offload_transfer_is_unharmed(town: Town, address: str) -> None:
    """MTU 1500: with offload, frames of up to 64 kB cross the box as one."""
    download(town, address)


def download(town: Town, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    target = town.lab.world.temp / "download"
    ca = town.lab.servers.pki.ca
    tls.curl(town.lab["pc"], f"http://{host}/octets/{SIZE}", ca, "--output", str(target), timeout=30).require()
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(b"x" * SIZE).digest()
    sent = tls.curl(
        town.lab["pc"], f"http://{host}/envoi", ca, "--data-binary", f"@{target}", "--header", "Expect:", timeout=30
    )
    sent.require()
