"""A base on its way: candidate, 5 %, all; stopped by a jump; taken back by one command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vigie.contract.base import OVERRIDE_TYPE, Descriptor, base_path, override_path
from vigie_department.base.build import Workshop
from vigie_department.base.judge import Comparison, Observed, Refusals, Trial
from vigie_department.base.release import Stage
from vigie_department.base.serving import Serving
from vigie_department.errors import PublishError, RefusedError, StateError
from vigie_department.signer import keys, keys_commands, offline

from .conftest import PASSPHRASES, Bench, InProcess, expect
from .tufclient import client, fetched

pytestmark = pytest.mark.slow

QUIET = Refusals(40, 40, 400, 40)


def test_the_first_base_goes_to_a_part_of_the_boxes_first(bench: Bench, tmp_path: Path) -> None:
    release = bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1", "bad.example-mal.fr"), "alice"))
    assert (release.version, release.stage) == (1, Stage.WAVE)
    served = bench.served(tmp_path / "box")
    assert (served.released.version, served.share, served.previous, served.candidate) == (1, 5, None, None)
    bench.clock.now += 11.9 * 3600
    assert bench.publisher.tick() is not None
    assert bench.stages() == {1: "wave"}
    bench.clock.now += 0.2 * 3600
    bench.publisher.tick()
    assert bench.stages() == {1: "all"}
    assert bench.served(tmp_path / "box").share == 100
    assert bench.announced == [1, 1]
    assert bench.publisher.tick() is None


def test_a_second_base_is_tried_by_volunteers_then_5_percent_then_all(bench: Bench, tmp_path: Path) -> None:
    bench.everywhere("45.9.148.1")
    release = bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1", "45.9.148.2"), "alice"))
    assert (release.version, release.candidate and release.candidate.version) == (3, 2)
    box = tmp_path / "box"

    def state() -> tuple[int, int, int | None, int | None]:
        served = bench.served(box)
        previous, candidate = served.previous, served.candidate
        return (
            served.released.version, served.share,
            previous.version if previous else None, candidate.version if candidate else None,
        )  # fmt: skip

    assert state() == (1, 100, None, 2)
    bench.clock.now += 25 * 3600
    bench.publisher.tick()
    assert state() == (3, 5, 1, None)
    bench.clock.now += 13 * 3600
    bench.publisher.tick()
    assert state() == (3, 100, 1, None)
    assert bench.stages() == {1: "superseded", 3: "all"}


def test_what_is_served_is_what_the_box_can_apply(bench: Bench, tmp_path: Path) -> None:
    before = bench.addresses(3000)
    bench.everywhere(*before)
    bench.publisher.start(bench.publisher.prepare(bench.feeds(*before, "45.200.0.1"), "alice"))
    bench.clock.now += 25 * 3600
    bench.publisher.tick()
    root = (bench.config.paths.trust / "tuf-root.json").read_bytes()
    updater = client(bench.repository.folder, tmp_path / "box", root, bench.clock())
    served = Descriptor.from_bytes(fetched(updater, "base/current.json"))
    assert [(d.old, d.new) for d in served.deltas] == [(1, 3), (2, 3)]
    full, delta, old = (tmp_path / name for name in ("full.vgb", "delta.vgd", "old.vgb"))
    full.write_bytes(fetched(updater, base_path(3)))
    old.write_bytes(fetched(updater, base_path(1)))
    delta.write_bytes(fetched(updater, served.deltas[0].path))
    vigie = Path(sys.executable).with_name("vigie")
    patched = tmp_path / "patched.vgb"
    subprocess.run([vigie, "base", "patch", old, delta, "-o", patched], check=True, capture_output=True)
    assert patched.read_bytes() == full.read_bytes()


def test_a_jump_stops_the_wave_and_an_operator_decides(bench: Bench) -> None:
    bench.everywhere("45.9.148.1")
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.2", "45.9.148.1"), "alice"))
    bench.clock.now += 25 * 3600
    bench.publisher.tick()
    bench.counts.comparison = Comparison(Refusals(5, 5, 10, 900), Refusals(5, 5, 10, 10), QUIET, QUIET)
    bench.clock.now += 3600
    done = bench.publisher.tick()
    assert done is not None and "saut des refus : 90,0 refus" in done[1]
    assert bench.stages() == {1: "all", 3: "stopped"}
    bench.clock.now += 100 * 3600
    assert bench.publisher.tick() is None
    bench.publisher.advance(bench.releases()[-1])
    assert bench.stages() == {1: "superseded", 3: "all"}


def test_silence_of_the_fleet_is_not_consent(bench: Bench) -> None:
    bench.everywhere("45.9.148.1")
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1", "45.9.148.2"), "alice"))
    bench.counts.seen = Trial(8, 3, ())
    bench.clock.now += 100 * 3600
    done = bench.publisher.tick()
    assert done is not None and "3 volontaires sur 8" in done[1]
    assert bench.stages()[3] == "candidate"
    bench.counts.seen = Trial(8, 4, ())
    bench.publisher.tick()
    assert bench.stages()[3] == "wave"
    bench.counts.comparison = Comparison(Refusals(30, 10, 100, 0), QUIET, QUIET, QUIET)
    bench.clock.now += 100 * 3600
    done = bench.publisher.tick()
    assert done is not None and "10 boîtiers sur 30" in done[1]
    assert bench.stages()[3] == "wave"


def test_an_indicator_that_many_communes_meet_stops_the_candidate(bench: Bench, tmp_path: Path) -> None:
    bench.everywhere("45.9.148.1")
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1", "ecole-en-ligne-test.fr"), "alice"))
    bench.counts.seen = Trial(10, 10, [Observed("ecole-en-ligne-test.fr", 7, 900), Observed("45.9.148.2", 2, 50)])
    done = bench.publisher.tick()
    assert done is not None and "ecole-en-ligne-test.fr (7 communes)" in done[1]
    assert "45.9.148.2" not in done[1]
    assert bench.stages()[3] == "stopped"
    bench.publisher.cancel(bench.releases()[-1], "alice")
    assert bench.served(tmp_path / "box").candidate is None
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1", "45.9.148.3"), "alice"))
    assert bench.stages() == {1: "all", 3: "superseded", 5: "candidate"}


def test_revert_puts_the_content_of_before_on_every_box(bench: Bench, tmp_path: Path) -> None:
    bench.everywhere("45.9.148.1", "45.9.148.2")
    bench.everywhere("45.9.148.1", "45.9.148.3")
    assert bench.stages() == {1: "superseded", 3: "all"}
    done = bench.publisher.revert("alice")
    assert (done.version, done.reverts, done.stage) == (4, 3, Stage.ALL)
    assert bench.stages() == {1: "superseded", 3: "reverted", 4: "all"}
    served = bench.served(tmp_path / "box")
    assert (served.released.version, served.share) == (4, 100)
    changes = bench.work.compiler.diff(bench.work.base(1), bench.work.base(4))
    assert all(changes[kind] == {"added": 0, "removed": 0, "changed": 0} for kind in ("v4", "v6", "names"))
    assert bench.announced[-1] == 4


def test_revert_of_a_wave_takes_it_from_the_boxes_that_have_it(bench: Bench, tmp_path: Path) -> None:
    bench.everywhere("45.9.148.1")
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.9", "45.9.148.1"), "alice"))
    bench.clock.now += 25 * 3600
    bench.publisher.tick()
    bench.publisher.revert("alice")
    assert bench.stages() == {1: "superseded", 3: "reverted", 4: "all"}
    bench.everywhere("45.9.148.1", "45.9.148.7")
    assert bench.stages()[6] == "all"
    bench.publisher.revert("alice")
    assert bench.stages()[7] == "all"
    assert bench.served(tmp_path / "box").released.version == 7


def test_a_revert_ends_what_was_made_from_the_base_that_it_takes_back(bench: Bench) -> None:
    bench.everywhere("45.9.148.1")
    bench.everywhere("45.9.148.1", "45.9.148.2")
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1", "45.9.148.3"), "alice"))
    bench.publisher.revert("alice")
    assert bench.stages() == {1: "superseded", 3: "reverted", 5: "superseded", 6: "all"}


def test_a_base_that_was_prepared_against_another_is_not_published(bench: Bench) -> None:
    bench.everywhere("45.9.148.1")
    old = bench.publisher.prepare(bench.feeds("45.9.148.1", "45.9.148.2"), "alice")
    bench.everywhere("45.9.148.1", "45.9.148.3")
    with expect(StateError, "publish again"):
        bench.publisher.start(old)


def test_nothing_to_revert_to(bench: Bench) -> None:
    with expect(StateError, "no base to go back to"):
        bench.publisher.revert("alice")
    bench.everywhere("45.9.148.1")
    with expect(StateError, "no base to go back to"):
        bench.publisher.revert("alice")


def test_another_content_is_not_signed_as_a_revert(bench: Bench) -> None:
    bench.everywhere("45.9.148.1")
    bench.everywhere("45.9.148.1", "45.9.148.2")
    evil = bench.config.paths.base / "evil.vgb"
    bench.work.compiler.compile(bench.feeds("45.9.148.99"), evil, 4)

    class Evil(InProcess):
        def renumber(self, base: Path, output: Path, version: int) -> dict[str, Any]:
            output.write_bytes(evil.read_bytes())
            return {}

    bench.work = Workshop(bench.work.folder, Evil())
    bench.restart()
    with expect(RefusedError, "not a revert"):
        bench.publisher.revert("mallory")
    assert bench.stages()[3] == "all"


def test_an_emergency_wants_two_operators_and_then_goes_to_all(bench: Bench, tmp_path: Path) -> None:
    bench.everywhere("45.9.148.1")
    bench.operator("alice")
    bench.operator("bob")
    release = bench.publisher.emergency(bench.publisher.prepare(bench.feeds("45.9.148.1", "45.9.148.2"), "alice"))
    assert release.stage is Stage.WAITING
    bench.publisher.tick()
    bench.approve(release, "alice")
    bench.approve(release, "alice")
    done = bench.publisher.tick()
    assert done is not None and done[0].stage is Stage.WAITING
    bench.approve(release, "bob")
    bench.publisher.tick()
    assert bench.stages() == {1: "superseded", 3: "all"}
    served = bench.served(tmp_path / "box")
    assert (served.released.version, served.share) == (3, 100)
    record = bench.service.read_log("", {"after": 0, "limit": 1000})["records"][-1]
    assert record["facts"]["approval"] == release.approval


def test_an_emergency_that_nobody_approves_stops(bench: Bench) -> None:
    release = bench.publisher.emergency(bench.publisher.prepare(bench.feeds("45.9.148.1"), "alice"))
    bench.clock.now += 3601
    bench.publisher.tick()
    assert bench.stages() == {release.version: "stopped"}


def test_all_at_once_without_approval_is_refused_by_the_signer(bench: Bench, tmp_path: Path) -> None:
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1"), "alice"))
    with expect(RefusedError, "two operators"):
        bench.publisher.advance(bench.releases()[-1])
    assert bench.stages() == {1: "wave"}
    assert bench.served(tmp_path / "box").share == 5


def test_a_list_without_a_right_is_not_published(bench: Bench) -> None:
    with expect(PublishError, r"list \(.*list.txt\) : licence MIT"):
        bench.publisher.prepare(bench.feeds("45.9.148.1", redistributable=False), "alice")
    unknown = bench.config.paths.base / "somewhere.txt"
    unknown.write_text("45.9.148.1\n", encoding="utf-8")
    with expect(PublishError, r"licence \?[\s\S]*redistributable: true"):
        bench.publisher.prepare([unknown], "alice")
    assert bench.releases() == []
    assert not list((bench.config.paths.base / "versions").glob("*.vgb"))


def test_what_boxes_would_refuse_waits_for_the_keyholders(bench: Bench, tmp_path: Path) -> None:
    many = bench.addresses(5000)
    bench.everywhere(*many)
    release = bench.publisher.prepare(bench.feeds(*many[:2000]), "alice")
    with expect(PublishError, "keys override 3"):
        bench.publisher.start(release)
    assert bench.stages()[3] == "prepared"
    holders = offline.open_keys(bench.config.paths.offline, lambda n: PASSPHRASES[n - 1])
    content = keys.override_envelope(3, release.base.sha256, holders)
    state = Serving(bench.repository, bench.signer, bench.work).tuf()
    proposal = keys.propose_targets(state, bench.clock(), {override_path(3): content}).signed(holders)
    for path, data in proposal.files.items():
        bench.repository.add(path, data)
    files = bench.signer.call("install", proposal=proposal.to_bytes().decode())
    bench.repository.publish(keys_commands.files_of(files))
    bench.publisher.start(bench.releases()[-1])
    assert bench.stages()[3] == "candidate"
    root = (bench.config.paths.trust / "tuf-root.json").read_bytes()
    updater = client(bench.repository.folder, tmp_path / "box", root, bench.clock())
    assert OVERRIDE_TYPE.encode() in fetched(updater, override_path(3))


def test_one_release_at_a_time(bench: Bench) -> None:
    bench.publisher.start(bench.publisher.prepare(bench.feeds("45.9.148.1"), "alice"))
    second = bench.publisher.prepare(bench.feeds("45.9.148.2"), "bob")
    with expect(StateError, "--replace"):
        bench.publisher.start(second)
    bench.publisher.start(second, replace_active=True)
    assert bench.stages() == {1: "superseded", 2: "wave"}


def test_a_version_is_never_used_again(bench: Bench) -> None:
    bench.everywhere("45.9.148.1")
    bench.store.path.unlink()  # a console restored from a backup of before
    release = bench.publisher.prepare(bench.feeds("45.9.148.2"), "alice")
    assert release.version == 2
    assert bench.publisher.prepare(bench.feeds("45.9.148.3"), "alice", least=50).version == 50


@pytest.mark.parametrize("stage", ["all", "superseded", "reverted"])
def test_no_way_back_from_the_end(bench: Bench, stage: str) -> None:
    release = bench.everywhere("45.9.148.1")
    if stage != "all":
        release = release.moved(Stage(stage), 0.0)
    with expect(StateError, "no next stage"):
        bench.publisher.advance(release)
