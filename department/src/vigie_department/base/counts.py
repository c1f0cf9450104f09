"""Where the figures come from: `RefusalCounts`, and its implementation over the console's tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from vigie.contract.base import ring
from vigie.contract.codes import Reason
from vigie_department.base.judge import Comparison, Observed, Refusals, Trial

WEEK: Final = timedelta(days=7)
#: Refusals that a base causes. Isolation, quarantine and unsolicited inbound are other matters.
BASE_REASONS: Final = (Reason.TOXIC_ADDRESS, Reason.TOXIC_DNS, Reason.TOXIC_SNI)
_OBSERVED_MAX: Final = 100_000


class RefusalCounts(Protocol):
    """What the judge asks."""

    def wave(self, version: int, share: int, since: float, until: float) -> Comparison:
        """Boxes whose ring for `version` is below `share`, and the others, from `since` to `until` (Unix seconds)."""

    def trial(self, candidate: int) -> Trial:
        """What the volunteers met of a candidate."""


class NoCounts:
    """A fleet without boxes yet: nothing is expected to report."""

    def wave(self, version: int, share: int, since: float, until: float) -> Comparison:
        """Nothing."""
        none = Refusals(0, 0, 0, 0)
        return Comparison(none, none, none, none)

    def trial(self, candidate: int) -> Trial:
        """Nothing."""
        return Trial(0, 0, ())


def without_the_loudest(sums: Iterable[int]) -> int:
    """The sum, the largest counted as much as the second largest: one box that lies neither stops every base nor hides
    a bad one."""
    ordered = sorted(sums)
    if len(ordered) > 1:
        ordered[-1] = ordered[-2]
    return sum(ordered)


class FleetCounts:
    """Over the tables Counter, Observation, Box and Commune. Needs `console.setup.start`."""

    def wave(self, version: int, share: int, since: float, until: float) -> Comparison:
        """Whole hours from the first that begins after `since`: the hour of the release mixes both bases."""
        from vigie_department.console.models import Box

        boxes = set(
            Box.objects.filter(state__in=(Box.State.ACTIVE, Box.State.PENDING), status__online=True).values_list(
                "id", flat=True
            )
        )
        inside = {box for box in boxes if ring(box, version) < share}
        start = datetime.fromtimestamp(-(-int(since) // 3600) * 3600, UTC)
        end = datetime.fromtimestamp(until, UTC)
        found = [
            self._refusals(group, start - shift, end - shift)
            for group in (inside, boxes - inside)
            for shift in (timedelta(0), WEEK)
        ]
        return Comparison(*found)

    def _refusals(self, boxes: set[str], start: datetime, end: datetime) -> Refusals:
        from vigie_department.console.models import Counter

        reported: dict[str, int] = {}
        rows = Counter.objects.filter(hour__gte=start, hour__lt=end).order_by()
        for box, _hour in rows.values_list("box_id", "hour").distinct().iterator():
            if box in boxes:
                reported[box] = reported.get(box, 0) + 1
        names = [f"blocked:{reason.value}" for reason in BASE_REASONS]
        sums: dict[str, int] = {}
        # summed here: what a box may say is more than a database adds up
        for box, value in rows.filter(name__in=names).values_list("box_id", "value").iterator():
            if box in boxes:
                sums[box] = sums.get(box, 0) + int(value)
        return Refusals(len(boxes), len(reported), sum(reported.values()), without_the_loudest(sums.values()))

    def trial(self, candidate: int) -> Trial:
        """By commune: two boxes of one town hall count once."""
        from django.db.models import Count, Sum

        from vigie_department.console.models import BoxStatus, Commune, Observation

        volunteers = Commune.objects.filter(volunteer=True, boxes__status__online=True).distinct().count()
        reporting = (
            BoxStatus.objects.filter(candidate=candidate, box__commune__volunteer=True)
            .values("box__commune")
            .distinct()
            .count()
        )
        rows: Iterable[tuple[str, int, int]] = (
            Observation.objects.filter(candidate=candidate)
            .values_list("indicator")
            .annotate(communes=Count("box__commune", distinct=True), n=Sum("count"))
            .order_by("-communes")[:_OBSERVED_MAX]
        )
        return Trial(volunteers, reporting, [Observed(*row) for row in rows])
