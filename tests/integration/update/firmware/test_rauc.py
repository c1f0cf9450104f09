"""RAUC over a real bus: what is asked for, what comes of each answer, and what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rauc import HASH, Plan, private_bus, rauc_service
from vigie.contract.firmware import UpdateCode
from vigie.update.firmware.rauc import Progress, Rauc, RaucError, Wanted, reason

pytestmark = pytest.mark.integration
URL = "https://maj.vigie.test/tuf/firmware/vigie-cm4-2026.12.1.raucb"
OTHER = "cd" * 32


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    with private_bus(tmp_path) as address:
        yield address


def install(bus: str, plan: Plan, manifest: str = HASH) -> list[Progress]:
    told: list[Progress] = []
    with rauc_service(bus, plan):
        Rauc(address=bus).install(Wanted(URL, manifest, Path("/trust/roots.pem")), told.append)
    return told


def refused(bus: str, plan: Plan, manifest: str = HASH) -> RaucError:
    with pytest.raises(RaucError) as caught:
        install(bus, plan, manifest)
    return caught.value


def test_the_digest_and_our_roots_are_required(bus: str) -> None:
    plan = Plan()
    told = install(bus, plan)
    assert plan.asked == [("install", URL, {"tls-ca": "/trust/roots.pem", "require-manifest-hash": HASH})]
    assert told and all(0 <= one.percent <= 100 for one in told)


def test_another_bundle_behind_the_same_name_is_refused_by_rauc(bus: str) -> None:
    error = refused(bus, Plan(manifest=OTHER))
    assert (error.code, error.passing) == (UpdateCode.MISMATCH, False)


def test_a_rauc_that_cannot_bind_is_asked_before_and_looked_at_after(bus: str) -> None:
    plan = Plan(binds=False)
    install(bus, plan)
    assert [what for what, *_ in plan.asked] == ["install", "inspect", "install"]
    assert "require-manifest-hash" not in plan.asked[2][2] and plan.asked[2][2]["tls-ca"] == "/trust/roots.pem"


def test_there_another_bundle_is_not_even_begun(bus: str) -> None:
    plan = Plan(binds=False, manifest=OTHER)
    assert refused(bus, plan).code is UpdateCode.MISMATCH
    assert [what for what, *_ in plan.asked] == ["install", "inspect"]


def test_there_one_that_was_swapped_in_between_is_called_bad(bus: str) -> None:
    plan = Plan(binds=False, recorded=OTHER)
    assert refused(bus, plan).code is UpdateCode.MISMATCH
    assert plan.asked[-1] == ("mark", "bad", "other")


@pytest.mark.parametrize(
    ("text", "code", "passing"),
    [
        ("Failed to verify bundle: signature verification failed: unable to get local issuer certificate",
         UpdateCode.BAD_SIGNATURE, False),
        ("Compatible mismatch: Expected 'vigie-cm4' but bundle manifest has 'x'", UpdateCode.OTHER_BOARD, False),
        ("failed to write image: No space left on device", UpdateCode.NO_SPACE, True),
        ("Failed to stream bundle: Could not resolve host: maj.vigie.test", UpdateCode.NO_NETWORK, True),
        ("nbd server process died", UpdateCode.NO_NETWORK, True),
        ("Signature size (4294967295) exceeds bundle size", UpdateCode.TRUNCATED, False),
        ("something new", UpdateCode.INSTALL, False),
    ],
)  # fmt: skip
def test_what_rauc_says_last_is_the_reason(bus: str, text: str, code: UpdateCode, passing: bool) -> None:
    error = refused(bus, Plan(error=text))
    assert (error.code, error.passing) == (code, passing) and text in str(error)


def test_a_service_that_goes_away_is_no_fault_of_the_release(bus: str) -> None:
    error = refused(bus, Plan(vanishes=True))
    assert (error.code, error.passing) == (UpdateCode.INSTALL, True)


def test_no_rauc_and_no_bus(bus: str, tmp_path: Path) -> None:
    with pytest.raises(RaucError) as caught:
        Rauc(address=bus).mark("good", "booted")
    assert caught.value.passing and caught.value.code is UpdateCode.INSTALL
    with pytest.raises(RaucError):
        Rauc(address=f"unix:path={tmp_path}/none").mark("good", "booted")


def test_an_earlier_installation_goes_to_its_end_first(bus: str) -> None:
    plan = Plan(busy_s=0.3)
    install(bus, plan)
    assert [what for what, *_ in plan.asked] == ["install"]


def test_mark(bus: str) -> None:
    plan = Plan()
    with rauc_service(bus, plan):
        assert Rauc(address=bus).mark("good", "booted") == "marked slot boot.1 as good"
    assert plan.asked == [("mark", "good", "booted")]
    with rauc_service(bus, Plan(mark_error="boot-backend: autoboot.txt cannot be written")), pytest.raises(RaucError):
        Rauc(address=bus).mark("good", "booted")


def test_giving_up_in_the_middle(bus: str) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with rauc_service(bus, Plan(busy_s=30.0)), pytest.raises(Stop):
        Rauc(stop, bus).install(Wanted(URL, HASH, Path("/r")), lambda _p: None)


def test_reasons_are_looked_for_in_order() -> None:
    assert reason("Manifest hash does not match; signature") == (UpdateCode.MISMATCH, False)
    assert reason("") == (UpdateCode.INSTALL, False)
