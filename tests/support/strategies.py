"""Random policies and histories for hypothesis, in the small world of `tests.support.random_frames`.

Times are far from each other (at least minutes), so that the seconds that a test itself takes change no decision.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.support import packets as p
from tests.support.policies import (
    CLASS_FORCE,
    CLASS_NEVER,
    CLASS_PORTS,
    FOREVER,
    NO_VLAN,
    PK_AS,
    PK_COUNTRY,
    PK_DEFAULT,
    AddressException,
    IndicatorClass,
    NameException,
    OwnFlow,
    Policy,
    Resolved,
)
from tests.support.random_frames import DEVICES, LAN4, LAN6, LAN_PORTS, NAMES, REMOTE4, REMOTE6, REMOTE_PORTS
from vigie.contract.codes import Action, Direction, InboundMode

T0 = 1_000_000
"""The model's clock at the start of a history, seconds."""
UNTILS = (FOREVER, FOREVER, T0 - 5000, T0 + 1000)
JUMPS = (20, 330, 1100, 7300)
"""Ages that matter: closed 10 s, known 300 s, the `until` above, TCP 2 h."""

ADDRESSES = (*LAN4, *LAN6, *REMOTE4, *REMOTE6)
MAPPED = "::ffff:198.51.100.66"
"""The same 16 bytes as an IPv4 address, in an IPv6 packet."""
PREFIXES = (
    "198.51.100.0/24", "198.51.100.66/32", "198.51.100.64/30", "203.0.113.0/24", "9.9.9.9/32", "192.168.1.0/24",
    "192.168.1.10/32", "0.0.0.0/0", "2001:db8:bad::/48", "2001:db8:bad::66/128", "2001:db8:900d::/48", "2620:fe::9/128",
    "2001:db8::/32", "::/0",
)  # fmt: skip
LISTED = (*PREFIXES, f"{MAPPED}/128")

_actions = st.sampled_from((Action.BLOCK, Action.BLOCK, Action.OBSERVE, Action.NONE))
_classes = st.builds(
    IndicatorClass,
    flags=st.sampled_from((0, 0, 0, 0, CLASS_NEVER, CLASS_PORTS, CLASS_FORCE)),
    direction=st.sampled_from((Direction.BOTH, Direction.BOTH, Direction.OUT, Direction.IN)),
    action=_actions,
    category=st.integers(1, 16),
    rank=st.sampled_from((0, 0, 0, 1, 2, 3, 9)),
)
_untils = st.sampled_from(UNTILS)
_maybe_device = st.sampled_from((None, *DEVICES))
_wanted = st.sampled_from((Action.BLOCK, Action.ALLOW, Action.OBSERVE))


def _table(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[Any]:
    """A small table, empty in half of the policies."""
    return st.one_of(st.just({}), st.dictionaries(keys, values, min_size=1, max_size=size))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy of the small world; each table is empty half of the time."""
    classes = dict(enumerate(draw(st.lists(_classes, min_size=1, max_size=5)), start=1))
    never = len(classes) + 1
    classes[never] = IndicatorClass(CLASS_NEVER, rank=draw(st.sampled_from((0, 0, 4))))
    numbers = st.sampled_from(tuple(classes))
    protected = draw(st.sampled_from((({}, {}), ({p.RESOLVER: never, p.RESOLVER6: never}, {"good.example": never}))))
    isolation = draw(st.sampled_from((0,) * 12 + (1, 2, 3, 3)))
    nothing = draw(st.integers(0, 15)) == 15
    return Policy(
        wan_port=draw(st.sampled_from((1, 1, 1, 0, 0, -1))),
        gw_mac=draw(st.sampled_from(((), (p.GATEWAY_MAC,), (p.GATEWAY_MAC, p.NEIGHBOUR_MAC)))),
        onlink=draw(st.sampled_from(((), ("192.168.1.0/24", "2001:db8:1::/64"), ("192.168.1.0/24",)))),
        box_addr=draw(st.sampled_from(((p.BOX, p.BOX6), (p.BOX,), ()))),
        gateway=draw(st.sampled_from(((), (p.GATEWAY, p.GATEWAY6)))),
        box_ports=draw(st.sampled_from(((), ((6, 443), (17, 53))))),
        inbound_mode=draw(st.sampled_from((*InboundMode, *[InboundMode.REFUSE] * 3))),
        isolation_level=isolation,
        isolation_until=draw(st.sampled_from((T0 + 1000, T0 + 9000, T0 - 5))) if isolation else 0,
        grace_until=draw(st.sampled_from((0, 0, 0, T0 + 1000))),
        loop_port=draw(st.sampled_from((0,) * 40 + (1, 2))),
        learn=draw(st.booleans()),
        classes=classes,
        base={}
        if nothing
        else draw(st.dictionaries(st.sampled_from(LISTED), numbers, max_size=6))
        | {f"{a}/{128 if p.is6(a) else 32}": number for a, number in protected[0].items()},
        base_ports=draw(
            st.frozensets(st.tuples(st.sampled_from((*ADDRESSES, MAPPED)), st.sampled_from(REMOTE_PORTS)), max_size=4)
        ),
        names={}
        if nothing
        else draw(st.dictionaries(st.sampled_from(NAMES), numbers, min_size=1, max_size=5)) | protected[1],
        geo=draw(
            _table(
                st.sampled_from(LISTED),
                st.tuples(st.sampled_from((0, 64500, 64501)), st.sampled_from(("", "FR", "US"))),
                4,
            )
        ),
        exceptions=draw(
            _table(
                st.tuples(_maybe_device, st.sampled_from(PREFIXES)),
                st.builds(
                    AddressException,
                    action=_wanted,
                    until=_untils,
                    port=st.sampled_from((0, 0, 443, 53, 40000)),
                    proto=st.sampled_from((0, 0, 6, 17)),
                ),
                4,
            )
        ),
        local_names=draw(
            _table(
                st.tuples(_maybe_device, st.sampled_from(NAMES)),
                st.builds(NameException, action=_wanted, until=_untils),
                4,
            )
        ),
        quarantine=draw(st.one_of(*[st.just({})] * 4, _table(st.sampled_from(DEVICES), _untils, 1))),
        dynamic=draw(_table(st.tuples(_maybe_device, st.sampled_from(ADDRESSES)), _untils, 3)),
        inbound_allow=draw(
            _table(
                st.tuples(st.sampled_from(DEVICES), st.sampled_from((6, 17, 47)), st.sampled_from((*LAN_PORTS, 0))),
                _untils,
                5,
            )
        ),
        device_class=draw(
            _table(st.sampled_from(DEVICES), st.tuples(st.integers(1, 2), st.sampled_from((0, 0, 1, 3))), 2)
        ),
        class_policy=draw(
            _table(
                st.one_of(
                    st.tuples(st.integers(1, 2), st.just(PK_DEFAULT), st.just(0)),
                    st.tuples(st.integers(1, 2), st.just(PK_COUNTRY), st.sampled_from(("FR", "US"))),
                    st.tuples(st.integers(1, 2), st.just(PK_AS), st.sampled_from((64500, 64501))),
                ),
                st.sampled_from((Action.BLOCK, Action.OBSERVE, Action.ALLOW)),
                4,
            )
        ),
        essential_ports=draw(
            _table(st.tuples(st.sampled_from((6, 17)), st.sampled_from(REMOTE_PORTS)), st.sampled_from((1, 2, 5)), 2)
        ),
        resolved=draw(
            _table(
                st.sampled_from(ADDRESSES),
                st.builds(Resolved, until=_untils, never=st.booleans(), rank=st.sampled_from((0, 1, 5))),
                3,
            )
        ),
        own=draw(
            st.sampled_from(
                (
                    (),
                    (
                        OwnFlow(p.BOX, p.PLAIN, 40000, 443, 6, NO_VLAN),
                        OwnFlow(p.BOX6, p.PLAIN6, 40001, 53, 17, NO_VLAN),
                    ),
                )
            )
        ),
    )


Step = int | tuple[str, int] | Policy
"""Of a history: the seed of some frames (`random_frames`); ("advance", seconds); ("evict", 0);
("rest", seed), those frames but the first; another policy."""


@st.composite
def histories(draw: st.DrawFn, length: int = 40) -> tuple[Policy, list[Step]]:
    """A policy and what happens under it: frames, time, loss of the flow cache, other policies with the same roles.

    hypothesis draws the policies; frames come in hundreds, so they come from one number.
    """
    policy = draw(policies())
    r = Random(draw(st.binary(min_size=8, max_size=8)))
    steps: list[Step] = [r.getrandbits(32) for _ in range(r.randrange(length // 4, length))]
    for _ in range(r.choice((0, 1, 2, 3, 4))):
        change = r.choice(("advance", "advance", "evict", "policy"))
        if change == "policy":
            steps.append(replace(draw(policies()), wan_port=policy.wan_port))
        else:
            steps.append((change, r.choice(JUMPS) if change == "advance" else 0))
        before = [step for step in steps if isinstance(step, int)][-8:]
        for _ in range(r.randrange(1, length // 3)):
            again = r.choice(before)
            steps.append(r.choice((("rest", again), ("rest", again), again, r.getrandbits(32))))
    return policy, steps
