"""`[signer]` of department.toml: what the signer allows. Flat, so that the configuration can build it by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignerSettings:
    """Rates are token buckets: `burst` at once, then `per_hour`. Days and seconds say so."""

    desired_burst: int = 2000
    desired_per_hour: int = 2000
    command_burst: int = 200
    command_per_hour: int = 600
    firmware_burst: int = 30
    firmware_per_hour: int = 60
    """boxes told to install another release: the fleet takes half a day, whoever asks"""
    publish_burst: int = 30
    publish_per_hour: int = 12
    refresh_burst: int = 20
    refresh_per_hour: int = 20
    revert_burst: int = 3
    revert_per_hour: int = 1
    request_burst: int = 20
    request_per_hour: int = 20
    wave_s: int = 6 * 3600
    """shortest time between the first signature of a base for a part of the boxes and the one for all"""
    approval_s: int = 3600
    """how long a request waits for its two operators, and an approved one for its execution"""
    timestamp_days: float = 7.0
    snapshot_days: float = 14.0
    base_days: float = 60.0


@dataclass(frozen=True, slots=True)
class OfflineLifetimes:
    """Days until what the offline keys signed expires."""

    root: int = 730
    targets: int = 550
