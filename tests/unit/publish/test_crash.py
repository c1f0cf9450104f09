"""The power goes at any write of publisher or signer: what is served stays whole, and the next command goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vigie_department.base.release import Release, Stage

from .conftest import Bench


class PowerCut(BaseException):
    """No handler in the product catches this one, as none runs after a power cut."""


class Fuse:
    """Lets a number of disk synchronisations through, then cuts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = os.fsync
        self.left = -1
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        if self.left == 0:
            raise PowerCut
        self.left -= 1
        self._real(descriptor)


def advance(bench: Bench) -> Release:
    release = bench.releases()[-1]
    # cut at the very last write, it was remembered already
    return bench.publisher.advance(release) if release.stage is Stage.CANDIDATE else release


@pytest.mark.slow
def test_a_cut_at_any_write_of_a_step_harms_nobody(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.everywhere("45.9.148.1")
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1", "45.9.148.2"), "alice"))
    bench.clock.now += 25 * 3600
    box = tmp_path / "box"
    assert bench.served(box).released.version == 1
    fuse = Fuse(monkeypatch)
    cuts = 0
    while True:
        fuse.left = cuts
        try:
            advance(bench)
            break
        except PowerCut:
            cuts += 1
        fuse.left = -1
        served = bench.served(box)
        assert served.released.version in (1, 3), f"after {cuts} writes"
        bench.start_again()
        assert bench.served(box).released.version >= served.released.version
        bench.clock.now += 1
        if cuts % 3 == 0:  # the timer comes by before a person does
            bench.publisher.refresh()
            assert bench.served(box).released.version in (1, 3)
    fuse.left = -1
    assert cuts > 10, "the step did not write what this test is about"
    assert bench.stages()[3] == Stage.WAVE.value
    assert bench.served(box).released.version == 3
    assert bench.publisher.refresh().missing == ()
    bench.clock.now += 13 * 3600
    bench.publisher.tick()
    assert bench.served(box).share == 100
