"""The way of a base from feeds to every box: builds, publishes, waits, goes on, stops, takes back.

Each step writes target files, asks the signer, writes metadata, then remembers; every one of them may be repeated, so
what a crash interrupted is done again by the next command or tick.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from vigie.contract.base import base_path, override_path
from vigie_department.base import judge
from vigie_department.base.counts import RefusalCounts
from vigie_department.base.judge import Observed, Verdict
from vigie_department.base.release import ALL_SHARE, WAVE_SHARE, Release, Stage, active, current
from vigie_department.base.serving import Serving, Upkeep
from vigie_department.base.settings import PublishSettings
from vigie_department.base.store import ReleaseStore
from vigie_department.errors import PublishError, StateError
from vigie_department.signer.rules import APPROVALS, EMERGENCY_BASE, emergency_body
from vigie_department.texts import _

log = logging.getLogger("vigie.publish")

_SERVED: Final = frozenset({Stage.ALL, Stage.SUPERSEDED, Stage.REVERTED})


class Publisher:
    """One department's publisher. announce(version): tells the boxes to look. clock: Unix seconds."""

    def __init__(
        self,
        *,
        folder: Path,
        serving: Serving,
        store: ReleaseStore,
        counts: RefusalCounts,
        settings: PublishSettings,
        announce: Callable[[int], None],
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._serving = serving
        self._signer = serving.signer
        self._work = serving.workshop
        self._store = store
        self._counts = counts
        self._settings = settings
        self._announce = announce
        self._clock = clock

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One publisher at a time: a person's command and the timer's tick wait for each other."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def releases(self) -> list[Release]:
        """Every release, oldest first."""
        return self._store.all()

    # Building

    def prepare(self, feeds: Sequence[Path], operator: str, *, least: int = 0) -> Release:
        """Compiles, compares, remembers; nothing is published. least: no version below this one (after a restore)."""
        releases = self._store.all()
        before = current(releases)
        version = self._next_version(releases, least)
        new_version = version + 1 if before is not None else version
        base, report = self._work.compile(feeds, new_version)
        release = Release(
            base, Stage.PREPARED, self._clock(), self._clock(), operator,
            previous=before.version if before is not None else None, report={"compiled": report},
        )  # fmt: skip
        if before is not None:
            compared = self._work.compare(before.version, new_version)
            candidate = self._work.candidate(before.version, new_version, version)
            release = replace(release, candidate=candidate, report={**release.report, **compared})
        self._store.put(release)
        return release

    def _next_version(self, releases: Sequence[Release], least: int) -> int:
        used = [r.version for r in releases] + [r.candidate.version for r in releases if r.candidate is not None]
        signed = [int(v) for v in self._signer.status()["releases"]]
        return max([*used, *signed, least - 1, 0]) + 1

    def check_limits(self, release: Release) -> list[str]:
        """Why boxes would refuse it; empty when they would not, or the keyholders signed an override for it."""
        limits = release.report.get("limits")
        if limits is None or limits["ok"]:
            return []
        override = self._serving.tuf().offline_files().get(override_path(release.version))
        return [] if override is not None else [f"{one['code']}: {one['text']}" for one in limits["refusals"]]

    # Publishing

    def start(self, release: Release, *, replace_active: bool = False) -> Release:
        """First step of a prepared release: the candidate for the volunteers, or the wave when there is nothing to
        compare with (or `candidate_hours` is 0)."""
        self._make_room(release, replace_active=replace_active)
        self._refuse_limits(release)
        if release.candidate is not None and self._settings.candidate_hours > 0:
            return self._step(release.moved(Stage.CANDIDATE, self._clock()))
        return self._step(release.moved(Stage.WAVE, self._clock()))

    def emergency(self, release: Release, *, replace_active: bool = False) -> Release:
        """Asks for the approval of two operators; the base goes to all when they have given it."""
        self._make_room(release, replace_active=replace_active)
        self._refuse_limits(release)
        answer = self._signer.call(
            "request", kind=EMERGENCY_BASE, body=emergency_body(release.version, release.base.sha256),
            operator=release.operator,
        )  # fmt: skip
        waiting = replace(release.moved(Stage.WAITING, self._clock()), emergency=True, approval=answer["id"])
        self._store.put(waiting)
        return waiting

    def advance(self, release: Release) -> Release:
        """Next stage now, by an operator's word. The signer may still want two operators."""
        stages = {Stage.CANDIDATE: Stage.WAVE, Stage.WAVE: Stage.ALL, Stage.WAITING: Stage.ALL}
        following = stages.get(release.stage)
        if release.stage is Stage.STOPPED:
            following = Stage.ALL if release.share >= WAVE_SHARE else Stage.WAVE
        if release.stage is Stage.PREPARED:
            return self.start(release)
        if following is None:
            raise StateError(f"base {release.version} is {release.stage.value}: there is no next stage")
        return self._step(release.moved(following, self._clock()))

    def revert(self, operator: str) -> Release:
        """What everybody had before the last base that went anywhere, as a new version to all boxes at once."""
        releases = self._store.all()
        known = {r.version: r for r in releases}
        bad = active(releases)
        if bad is None or bad.share < WAVE_SHARE:
            bad = current(releases)
        if bad is None or bad.previous is None:
            raise StateError("there is no base to go back to")
        good = bad.previous
        while good in known and (inner := known[good]).stage is Stage.REVERTED and inner.previous is not None:
            good = inner.previous
        version = self._next_version(releases, 0)
        base = self._work.renumber(good, version)
        release = Release(
            base, Stage.PREPARED, self._clock(), self._clock(), operator, previous=good, reverts=bad.version,
            report={**self._work.compare(bad.version, version), "restores": good},
        )  # fmt: skip
        self._store.put(release)
        done = self._step(release.moved(Stage.ALL, self._clock()), revert=good)
        note = _("annulée par {operator}").format(operator=operator)
        changed = [known[bad.version].moved(Stage.REVERTED, self._clock(), note)]
        waiting = active(releases)
        if waiting is not None and waiting.version != bad.version:  # it was made from what is taken back
            changed.append(waiting.moved(Stage.SUPERSEDED, self._clock(), _replaced_by(done)))
        self._store.put(*changed)
        return done

    def cancel(self, release: Release, operator: str) -> Release:
        """Gives up a base that no box enforces. One that some do is taken back with `revert`."""
        if release.share >= WAVE_SHARE:
            raise StateError(f"base {release.version} is in force on some boxes: use revert")
        done = release.moved(
            Stage.SUPERSEDED, self._clock(), note=_("abandonnée par {operator}").format(operator=operator)
        )
        before = current(self._store.all())
        if release.stage in (Stage.CANDIDATE, Stage.STOPPED) and before is not None:
            self._serving.publish(
                before,
                ALL_SHARE,
                previous=self._previous(before, ALL_SHARE),
                candidate=None,
                deltas=(),
                now=self._clock(),
            )
        self._store.put(done)
        return done

    def _make_room(self, release: Release, *, replace_active: bool) -> None:
        releases = self._store.all()
        now_everywhere, other = current(releases), active(releases)
        if release.previous != (now_everywhere.version if now_everywhere is not None else None):
            raise StateError(
                f"base {release.version} was compared with {release.previous}, but another one is with all boxes "
                "since: publish again"
            )
        if other is None or other.version == release.version:
            return
        if not replace_active:
            raise StateError(
                f"base {other.version} is {other.stage.value}: wait, or say that this one replaces it (--replace)"
            )
        self._store.put(
            other.moved(
                Stage.SUPERSEDED, self._clock(), note=_("remplacée par {version}").format(version=release.version)
            )
        )

    def _refuse_limits(self, release: Release) -> None:
        reasons = self.check_limits(release)
        if reasons:
            raise PublishError(
                f"boxes would refuse base {release.version}:\n  " + "\n  ".join(reasons) + "\nIf it is right all the "
                "same, two keyholders lift the limit for this very file: `vigie-department keys override "
                f"{release.version} {self._work.base(release.version)} --offline DIR`, then `base resume`"
            )

    def _step(self, release: Release, *, revert: int | None = None) -> Release:
        """Publishes the stage that the release has reached."""
        releases = {r.version: r for r in self._store.all()}
        before = releases.get(release.previous) if release.previous is not None else None
        olds = [r.version for r in sorted(releases.values(), key=lambda r: -r.version) if r.stage in _SERVED]
        olds = [*olds[: self._settings.deltas], *([release.candidate.version] if release.candidate else [])]
        if release.reverts is not None:
            olds = [release.reverts, *olds]
        if release.stage is Stage.CANDIDATE:
            if before is None or release.candidate is None:
                raise PublishError(f"base {release.version}: nothing is released that a candidate could be made from")
            deltas = self._work.deltas([before.version], release.candidate.version)
            self._serving.publish(
                before, ALL_SHARE, previous=self._previous(before, ALL_SHARE), candidate=release.candidate,
                deltas=deltas, now=self._clock(),
            )  # fmt: skip
        else:
            share = WAVE_SHARE if release.stage is Stage.WAVE else ALL_SHARE
            self._serving.publish(
                release, share, previous=self._previous(release, share), candidate=None,
                deltas=self._work.deltas(list(dict.fromkeys(olds)), release.version), now=self._clock(),
                approval=release.approval if share == ALL_SHARE else "", revert=revert,
            )  # fmt: skip
        changed = [release]
        if release.stage is Stage.ALL:
            changed += [
                r.moved(
                    Stage.SUPERSEDED, self._clock(), note=_("remplacée par {version}").format(version=release.version)
                )
                for r in releases.values()
                if r.stage is Stage.ALL and r.version not in (release.version, release.reverts)
            ]
        self._store.put(*changed)
        self._announce(release.version)
        return release

    def _previous(self, released: Release, share: int) -> Release | None:
        """What boxes outside the wave keep: the last base that all had, never one that was only in a wave."""
        known = {r.version: r for r in self._store.all()}
        found = known.get(released.previous) if released.previous is not None else None
        return found if found is not None and (found.share == ALL_SHARE or share < ALL_SHARE) else None

    # Time

    def tick(self) -> tuple[Release, str] | None:
        """What the timer does: goes on, stops or waits. The release and why; None when nothing is on its way."""
        release = active(self._store.all())
        if release is None or release.stage is Stage.STOPPED:
            return None
        if release.stage is Stage.WAITING:
            return self._tick_waiting(release)
        verdict = self.verdict(release)
        now = self._clock()
        if verdict.jump:
            stopped = release.moved(Stage.STOPPED, now, note=verdict.reason)
            self._store.put(stopped)
            log.error("base %s stopped: %s", release.version, verdict.reason)
            return stopped, verdict.reason
        left = self.hours_left(release)
        if left > 0 or not verdict.enough:
            return release, verdict.reason
        moved = self.advance(release)
        return moved, verdict.reason

    def _tick_waiting(self, release: Release) -> tuple[Release, str]:
        rows = {row["id"]: row for row in self._signer.call("requests")["requests"]}
        row = rows.get(release.approval)
        names = sorted(row["approvals"]) if row is not None else []
        if row is not None and (len(names) >= APPROVALS or row["used"] is not None):
            return self.advance(release), _("approuvée par {names}").format(names=", ".join(names))
        if row is None or row["expires"] < self._clock():
            ended = release.moved(Stage.STOPPED, self._clock(), note=_("personne ne l'a approuvée à temps"))
            self._store.put(ended)
            return ended, ended.note
        return release, _("demande {id} : approuvée par {names}").format(
            id=release.approval, names=", ".join(names) or _("personne encore")
        )

    def verdict(self, release: Release) -> Verdict:
        """What the figures say of the stage it is in."""
        if release.stage is Stage.CANDIDATE and release.candidate is not None:
            return judge.judge_trial(self._counts.trial(release.candidate.version), self._settings)
        if release.stage is Stage.WAVE:
            seen = self._counts.wave(release.version, WAVE_SHARE, release.stage_since, self._clock())
            return judge.judge_wave(seen, self._settings)
        return Verdict(False, True, release.note)

    def observed(self, release: Release) -> list[Observed]:
        """The candidate's indicators that communes met, where enough of them did for nobody to be pointed at."""
        if release.stage is not Stage.CANDIDATE or release.candidate is None:
            return []
        return self._counts.trial(release.candidate.version).shown()

    def hours_left(self, release: Release) -> float:
        """Of the observation of its stage; 0.0 or less when it is over."""
        hours = {Stage.CANDIDATE: self._settings.candidate_hours, Stage.WAVE: self._settings.wave_hours}
        return hours.get(release.stage, 0.0) - (self._clock() - release.stage_since) / 3600

    def refresh(self) -> Upkeep:
        """Keeps the repository fresh and small, and the working folder too."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        age = self._settings.keep_days * 86400.0
        found = self._serving.refresh(self._folder / "retired.json", self._clock(), age)
        releases = sorted(self._store.all(), key=lambda r: -r.version)
        recent = releases[: self._settings.keep_versions]
        keep = {r.version for r in recent} | {r.candidate.version for r in recent if r.candidate is not None}
        keep |= {r.previous for r in recent if r.previous is not None}
        keep |= {r.version for r in releases if base_path(r.version) in found.listed}
        self._work.tidy(keep)
        return found


def _replaced_by(release: Release) -> str:
    return _("remplacée par {version}").format(version=release.version)
