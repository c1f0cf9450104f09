"""Whole updates through the real shell, and what whoever owns the web server, the line or some keys cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from tests.integration.update.firmware.conftest import BUNDLE, NEW, OLD, Station
from tests.integration.update.repository_side import DAY
from tests.support.rauc import HASH
from vigie.contract.firmware import Check, Phase, Severity, UpdateCode, Version
from vigie.update.boot.outcome import Outcome
from vigie.update.firmware.core import PATIENCE_CRITICAL_S
from vigie.update.firmware.health import SOAK_MAX_S, SOAK_S
from vigie.update.firmware.store import told

pytestmark = pytest.mark.integration


def installs(station: Station) -> list[Any]:
    return [asked for asked in station.plan.asked if asked[0] == "install"]


def tried(station: Station) -> None:
    """Up to the restart into the new slot."""
    station.publish(floor=NEW)
    station.order()
    firmware = station.process()
    firmware.turn()
    firmware.turn()
    assert station.told()["phase"] == "reboot" and station.slots.restarts == ["trial"]
    station.slots.restarted(NEW, "B", Outcome.ON_TRIAL)


def test_a_whole_update(station: Station) -> None:
    tried(station)
    assert installs(station)[0][2]["require-manifest-hash"] == HASH
    assert installs(station)[0][1].endswith("/tuf/firmware/vigie-cm4-2026.12.1.raucb")
    new = station.process()
    new.turn()
    assert station.told()["phase"] == "soak" and station.slots.said.committed == "A"
    station.slots.at += SOAK_S
    new.turn()
    state = told(station.config.paths)
    assert state is not None
    assert (state.phase, state.floor, state.tries, state.version) == (Phase.GOOD, NEW, 0, NEW)
    assert station.slots.said.committed == "B" and ("mark", "good", "booted") in station.plan.asked
    before = len(station.web.asked)
    for _ in range(3):
        new.turn()
    assert station.told()["phase"] == "good" and len(station.web.asked) == before


@pytest.mark.parametrize("sick", [Check.FORWARD, Check.LINK])
def test_a_sick_system_goes_back_by_itself(station: Station, sick: Check) -> None:
    tried(station)
    station.slots.sick = sick
    new = station.process()
    new.turn()
    station.slots.at += SOAK_MAX_S
    new.turn()
    assert station.slots.restarts[-1] == "back" and ("mark", "bad", "booted") in station.plan.asked
    assert station.told()["phase"] == "soak" and station.slots.said.committed == "A"
    new.turn()
    assert station.slots.restarts.count("back") == 1  # a restart takes its time
    station.slots.sick = None
    station.slots.restarted(OLD, "A", Outcome.NONE)
    old = station.process()
    old.turn()
    state = station.told()
    assert (state["phase"], state["code"], state["check"], state["tries"]) == (
        "rolled-back",
        "unhealthy",
        sick.value,
        1,
    )
    assert state["floor"] is None and old.record.evidence.startswith(sick.value)


def test_the_service_alone_starts_again_in_the_soak(station: Station) -> None:
    tried(station)
    station.process().turn()
    station.slots.at += SOAK_S
    station.process().turn()
    assert station.told()["phase"] == "good"


def test_a_cut_between_commit_and_record(station: Station) -> None:
    tried(station)
    station.process()
    station.slots.said = replace(station.slots.said, committed="B", trial=None)
    station.slots.restarted(NEW, "B", Outcome.NONE)
    firmware = station.process()
    firmware.turn()
    station.slots.at += SOAK_S
    firmware.turn()
    assert station.told()["phase"] == "good" and station.told()["floor"] == str(NEW)


def test_the_mairie_postpones_and_a_critical_release_is_not(station: Station) -> None:
    station.publish()
    station.order()
    station.quiet(False)
    firmware = station.process()
    firmware.turn()
    assert (station.told()["phase"], station.told()["code"]) == ("waiting", "window")
    assert firmware.postpone(3600)
    assert station.told()["phase"] == "postponed"
    assert firmware.postpone(0)
    assert station.told()["phase"] == "waiting"
    station.publish(Version(2027, 1, 0), severity=Severity.CRITICAL)
    station.order(Version(2027, 1, 0), 2)
    firmware.turn()
    assert (station.told()["phase"], station.told()["code"]) == ("waiting", "window")
    assert not firmware.postpone(3600)
    station.later(PATIENCE_CRITICAL_S)
    firmware.turn()
    assert station.told()["phase"] == "reboot"


def refused(station: Station, code: UpdateCode, *, phase: str = "waiting") -> None:
    """Nothing was asked of RAUC, and the department is told why."""
    firmware = station.process()
    firmware.turn()
    state = station.told()
    assert (state["phase"], state["code"]) == (phase, code.value), (state, firmware.record.evidence)
    assert installs(station) == [] and station.slots.restarts == []


def test_no_signed_time(station: Station) -> None:
    station.publish()
    station.order()
    (station.config.paths.run_enrol / "clock.json").unlink()
    refused(station, UpdateCode.CLOCK)
    assert station.web.asked == []


def test_a_version_that_nobody_signed(station: Station) -> None:
    station.publish()
    station.order(Version(2027, 1, 0))
    refused(station, UpdateCode.UNKNOWN_VERSION)


def test_an_older_version(station: Station) -> None:
    station.publish(Version(2026, 9, 1), floor=Version(2026, 9, 1))
    station.order(Version(2026, 9, 1))
    refused(station, UpdateCode.OLDER, phase="failed")


def test_another_board(station: Station) -> None:
    station.publish(board="qemu")
    station.order()
    refused(station, UpdateCode.OTHER_BOARD, phase="failed")


def test_a_step_in_between(station: Station) -> None:
    station.publish(requires=Version(2026, 11, 0))
    station.order()
    refused(station, UpdateCode.STEP_MISSING, phase="failed")


def test_too_few_keyholders(station: Station) -> None:
    station.repository.signers = 1
    station.publish()
    station.order()
    refused(station, UpdateCode.BAD_SIGNATURE)


def test_a_descriptor_of_the_online_role(station: Station) -> None:
    """Whoever holds every online key can name a firmware target in the role `base`: it is not looked for there."""
    station.publish()
    station.repository.base_targets["firmware/2027.1.0.json"] = station.repository.offline_targets.pop(
        "firmware/2026.12.1.json"
    )
    station.repository.publish()
    station.order(Version(2027, 1, 0))
    refused(station, UpdateCode.UNKNOWN_VERSION)


def test_metadata_that_is_kept_back(station: Station) -> None:
    station.publish()
    station.order()
    station.later(2 * DAY + 1)
    refused(station, UpdateCode.FROZEN)


def test_older_metadata_than_was_seen(station: Station) -> None:
    station.publish()
    old = dict(station.repository.files)
    station.publish()
    station.order(Version(2027, 1, 0))
    refused(station, UpdateCode.UNKNOWN_VERSION)
    timestamp = Metadata.from_bytes(old["metadata/timestamp.json"])
    assert timestamp.signed.version < station.repository.versions["timestamp"]
    station.web.files = old
    station.order(NEW, 2)
    refused(station, UpdateCode.FROZEN)


def test_nobody_answers(station: Station) -> None:
    station.order()
    station.web.twist = lambda _path, handler: handler.connection.close() is None
    refused(station, UpdateCode.NO_NETWORK)


@pytest.mark.parametrize(
    ("bundle", "code"),
    [(BUNDLE[:-1], UpdateCode.TRUNCATED), (BUNDLE + b"x", UpdateCode.TOO_LARGE)],
)
def test_a_bundle_of_another_length_is_not_begun(station: Station, bundle: bytes, code: UpdateCode) -> None:
    station.publish(bundle=bundle)
    station.order()
    refused(station, code)
    assert station.told()["tries"] == 1


def test_a_bundle_that_is_missing_is_not_asked_for_without_end(station: Station) -> None:
    station.publish()
    del station.repository.files["firmware/vigie-cm4-2026.12.1.raucb"]
    station.order()
    refused(station, UpdateCode.NO_NETWORK)
    firmware, asked = station.process(), len(station.web.asked)
    for _ in range(5):
        firmware.turn()
    assert len(station.web.asked) <= asked + 4  # one look of a new process; then it waits its time


def test_a_bundle_swapped_behind_valid_metadata(station: Station) -> None:
    """The same length, another content, signed by the right release key even: RAUC refuses it for its digest."""
    station.plan.manifest = "cd" * 32
    station.publish()
    station.order()
    firmware = station.process()
    firmware.turn()
    state = station.told()
    assert (state["phase"], state["code"], state["tries"]) == ("waiting", "mismatch", 1)
    assert station.slots.restarts == [] and station.slots.said.trial is None


def test_a_release_taken_back_while_it_waits(station: Station) -> None:
    station.publish()
    station.order()
    firmware = station.process()
    firmware.turn()
    assert station.told()["phase"] == "reboot"
    station.order(None)
    firmware.turn()
    assert station.told()["phase"] == "idle" and station.plan.asked[-1] == ("mark", "bad", "other")
    assert station.slots.restarts == []


def test_settings_that_cannot_be_read_withdraw_nothing(station: Station) -> None:
    station.publish()
    station.order()
    firmware = station.process()
    firmware.turn()
    (station.config.paths.link / "settings.json").write_text('{"firmware": {"version": 3}}')
    firmware.turn()
    assert station.told()["phase"] == "reboot" and station.slots.restarts == ["trial"]
