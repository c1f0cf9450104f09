"""`[publish]` of department.toml: how careful a release is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """Hours of observation, what counts as a jump in refusals, and how much is kept."""

    feeds: str = ""
    """folder or feed set (.yaml) that `base publish` takes when none is named; empty: <paths.base>/feeds"""
    compiler: str = "vigie"
    """the program that compiles"""
    allowlists: str = ""
    """folder of lists of much visited sites and addresses, for the compiler's protections"""
    suffixes: str = ""
    """public suffix list, for the compiler's protections"""
    candidate_hours: float = 24.0
    """the volunteers only observe for that long"""
    wave_hours: float = 12.0
    """5 % of the boxes enforce for that long, before all do; the signer has a floor of its own"""
    jump_factor: float = 2.0
    """refusals per box and hour, against before and against the boxes that are not in the wave"""
    jump_floor: float = 5.0
    """refusals per box and hour below which nothing is a jump"""
    least_reporting: float = 0.5
    """share of the boxes of a wave that must have reported before it goes on"""
    candidate_communes: float = 0.3
    """an indicator that this share of the volunteers meets is more likely a mistake than an attack"""
    deltas: int = 5
    """former versions from which a delta is made"""
    keep_days: int = 14
    """how long files that nothing refers to any more are served"""
    keep_versions: int = 8
    """compiled bases kept in the working folder"""
