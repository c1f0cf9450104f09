"""The model and the kernel say the same of random histories: verdict and reason, frame after frame.

A failure prints the policies and the frames in hexadecimal, ready to paste into `replay` below.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.support.model import Model
from tests.support.policies import Policy
from tests.support.progrun import Kernel
from tests.support.random_frames import build, random_frames
from tests.support.strategies import Step, histories
from vigie.contract.codes import Reason

pytestmark = pytest.mark.bpf

FULL_CASES = 30_000


class Disagreement(AssertionError):
    """Model and kernel differ; the message holds all that is needed to see it again."""


def replay(kernel: Kernel, policy: Policy, steps: list[Step]) -> int:
    """Run a history on both; how many frames that was. Frames of a literal history may be bytes with their port."""
    kernel.reset()
    gen = 4
    policy = replace(policy, gen=gen)
    model = Model(policy)
    kernel.apply(policy)
    told = [f"policy  {policy!r}"]
    frames = 0
    for step in steps:
        if isinstance(step, Policy):
            gen += 4
            policy = replace(step, gen=gen)
            model.set_policy(policy)
            kernel.apply(policy)
            told.append(f"policy  {policy!r}")
        elif isinstance(step, tuple) and step[0] == "advance":
            kernel.advance(step[1])
            told.append(f"{step[1]} seconds pass")
        elif isinstance(step, tuple) and step[0] == "evict":
            model.evict()
            kernel.evict()
            told.append("the flow cache is lost")
        else:
            seed, first = (step, 0) if isinstance(step, int) else (step[1], 1)
            for port, spec in random_frames(seed, policy.wan_port)[first:]:
                frame = build(spec)
                told.append(f"port {port} {spec!r}\n        {frame.hex()}")
                compare(kernel, model, port, frame, told)
                frames += 1
    return frames


def compare(kernel: Kernel, model: Model, port: int, frame: bytes, told: list[str]) -> None:
    expected = model.decide(port, frame, kernel.now)
    actual = kernel.run(port, frame)
    anomalies = expected.anomaly or (Reason.NONE,)
    if actual.decided == (expected.verdict, expected.reason) and actual.anomaly in anomalies:
        return
    raise Disagreement(
        f"the model says {expected.verdict.name} {expected.reason.name} {[a.name for a in expected.anomaly]},\n"
        f"the kernel says {actual.verdict.name} {actual.reason.name} [{actual.anomaly.name}] cached={actual.cached}\n"
        + "\n".join(told)
    )


def disagreement(kernel: Kernel, policy: Policy, steps: list[Step]) -> Disagreement | None:
    """What comes out of a history, twice: the memory of openers is a table of hashes, and another key of the hashes
    tells a collision, which may forget an opener, from a mistake."""
    for _ in range(2):
        try:
            replay(kernel, policy, steps)
        except Disagreement as e:
            found = e
            kernel.data.control["flow_seed"] ^= np.uint64(0x9E3779B97F4A7C15)
        else:
            return None
    return found


def smallest(kernel: Kernel, policy: Policy, steps: list[Step], found: Disagreement) -> Disagreement:
    """A disagreement of fewer steps and a simpler policy, after a bounded search."""
    size = max(len(steps) // 2, 1)
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            again = disagreement(kernel, policy, fewer)
            if again is None:
                at += size
            else:
                steps, found = fewer, again
        size //= 2
    blank = Policy()
    for field in fields(Policy):
        if field.name in ("wan_port", "classes"):
            continue
        simpler = replace(policy, **{field.name: getattr(blank, field.name)})
        again = disagreement(kernel, simpler, steps)
        if again is not None:
            policy, found = simpler, again
    return found


def agree(kernel: Kernel, examples: int, start: int = 0) -> int:
    """Compare on the random histories that begin with the number `start`; how many frames were compared."""
    frames = 0

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(histories())
    def run(history: tuple[Policy, list[Step]]) -> None:
        nonlocal frames
        try:
            frames += replay(kernel, *history)
        except Disagreement:
            found = disagreement(kernel, *history)
            if found is not None:
                raise smallest(kernel, *history, found) from None

    run()
    return frames


def test_model_and_kernel_agree_quickly(shared_kernel: Kernel) -> None:
    assert agree(shared_kernel, 40) > 500


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_model_and_kernel_agree(shared_kernel: Kernel) -> None:
    frames = start = 0
    while frames < FULL_CASES:
        start += 1
        frames += agree(shared_kernel, 100, start)
    print(f"model and kernel agree on {frames} frames")
