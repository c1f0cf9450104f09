"""The descriptor of a release, and what may follow what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from vigie.contract.firmware import FirmwareDescriptor, Severity, Version
from vigie_ota.bundle.verify import Verified
from vigie_ota.errors import ReleaseError

LOWEST: Final = Version(2000, 1, 0)


def describe(
    bundles: Sequence[Verified],
    *,
    floor: Version | None,
    requires: Version | None,
    severity: Severity,
    earliest: int,
    notes: Mapping[str, str],
) -> FirmwareDescriptor:
    """The descriptor of these bundles, one per board. floor None: nothing is ruled out. notes: `fr` and `en`.

    ReleaseError when the bundles do not belong together.
    """
    if not bundles:
        raise ReleaseError("no bundle: a release has at least one board")
    versions = sorted({one.version for one in bundles})
    if len(versions) > 1:
        raise ReleaseError(f"bundles of different versions: {', '.join(map(str, versions))}")
    boards = [one.board for one in bundles]
    if len(set(boards)) != len(boards):
        raise ReleaseError(f"two bundles for one board: {', '.join(sorted(boards))}")
    missing = [language for language in ("fr", "en") if not notes.get(language, "").strip()]
    if missing:
        raise ReleaseError(f"no note in {', '.join(missing)}: the mairie reads on its page what changes")
    return FirmwareDescriptor(
        version=versions[0],
        bundles={one.board: one.described() for one in bundles},
        floor=floor or LOWEST,
        requires=requires,
        severity=severity,
        earliest=earliest,
        note_fr=notes["fr"],
        note_en=notes["en"],
    )


def check_follows(new: FirmwareDescriptor, published: Iterable[FirmwareDescriptor]) -> None:
    """ReleaseError unless boxes could follow: the version and the floor rise, a step that is required exists."""
    former = list(published)
    if not former:
        return
    latest = max(one.version for one in former)
    if new.version <= latest:
        raise ReleaseError(
            f"{new.version}: {latest} is published; a release is above all others, since boxes never go back by order"
        )
    floor = max(one.floor for one in former)
    if new.floor < floor:
        raise ReleaseError(f"{new.version}: its floor {new.floor} is below {floor}, which is published and only rises")
    for board in new.bundles if new.requires is not None else ():
        steps = [one.version for one in former if board in one.bundles]
        if new.requires is not None and steps and max(steps) < new.requires:
            raise ReleaseError(
                f"{new.version}: requires {new.requires} on {board}, but the latest release for it is {max(steps)}"
            )


def check_matches(descriptor: FirmwareDescriptor, bundles: Sequence[Verified]) -> None:
    """ReleaseError unless these are exactly the bundles that the descriptor names."""
    given = {one.board: one for one in bundles}
    if len(given) != len(bundles) or set(given) != set(descriptor.bundles):
        raise ReleaseError(
            f"{descriptor.version}: for {', '.join(sorted(descriptor.bundles))}, "
            f"bundles are given for {', '.join(sorted(one.board for one in bundles)) or 'none'}"
        )
    for board, wanted in descriptor.bundles.items():
        one = given[board]
        if one.version != descriptor.version:
            raise ReleaseError(f"{one.path}: is {one.version}, the descriptor is of {descriptor.version}")
        if one.manifest.digest != wanted.manifest:
            raise ReleaseError(
                f"{one.path}: another bundle than the one that was signed for {descriptor.version} "
                f"(manifest {one.manifest.digest}, signed {wanted.manifest})"
            )
        if one.length != wanted.length:
            raise ReleaseError(f"{one.path}: {one.length} bytes, {wanted.length} were signed for {descriptor.version}")
