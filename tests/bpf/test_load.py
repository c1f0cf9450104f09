"""The object loads, whichever of the supported compilers built it, and costs the verifier little."""

from __future__ import annotations

import shutil

import pytest

from tests.support import packets as p
from tests.support.progrun import OBJECT, kernel
from tests.support.strategies import T0
from tests.support.town import HOME
from vigie.contract.codes import Reason, Verdict
from vigie.filter import abi
from vigie.filter.libbpf import BpfObject

pytestmark = pytest.mark.bpf

VERIFIED_MAX = 200_000
PROGRAMS = {"vigie_ingress", "vigie_own", "vigie_pass", "vigie_empty"}
COMPILERS = [version for version in (14, 16, 19) if shutil.which(f"clang-{version}")]


def test_a_supported_compiler_is_installed() -> None:
    assert COMPILERS, "none of clang-14, clang-16, clang-19: run `make setup`"


@pytest.mark.parametrize("version", COMPILERS)
def test_loads_and_decides(version: int) -> None:
    path = OBJECT.with_name(f"filter.bpf.clang-{version}.o")
    assert path.is_file(), f"{path.name}: build it with `make -C firmware/bpf all-clangs`"
    with kernel(T0, path) as instance:
        assert set(instance.data.programs) >= PROGRAMS
        for name in sorted(PROGRAMS):
            stats = instance.data.programs[name].stats()
            print(f"clang-{version} {name}: {stats.verified_insns} instructions verified")
            assert stats.verified_insns < VERIFIED_MAX
        instance.apply(HOME)
        for frame, decided in (
            (p.ether(p.tcp(p.PC, p.TOXIC, 1, 2)), (Verdict.REFUSE, Reason.TOXIC_ADDRESS)),
            (p.ether(p.tcp(p.PC6, p.TOXIC6, 1, 2)), (Verdict.REFUSE, Reason.TOXIC_ADDRESS)),
            (p.ether(p.udp(p.PC, p.PLAIN, 1, 53, p.dns_query("evil.example"))), (Verdict.NXDOMAIN, Reason.TOXIC_DNS)),
            (p.ether(p.udp(p.PC, p.PLAIN, 1, 2)), (Verdict.PASS, Reason.DEFAULT)),
        ):
            assert instance.run(0, frame).decided == decided


def test_every_map_of_the_contract_is_there() -> None:
    loaded = BpfObject.open(OBJECT).load()
    try:
        assert set(abi.MAPS) <= set(loaded.maps)
    finally:
        loaded.close()
