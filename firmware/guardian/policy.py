"""Why the box started, and whether it may load the data path: a table without input and output.

A row of starts that no person and no power cut explains, three of them, makes the box a plain bridge; an hour
later protection is on trial; a trial that lasts makes it normal again, one that ends in a reset makes it plain.

State (a dict, on disk as JSON): mode "normal"|"plain"|"trial", count of resets in the row, boot (the kernel's id of
the start that was judged last), reason of that start, recent (reasons of the last starts, newest last).
"""

BAD = ("watchdog", "panic", "warm")
MODES = ("normal", "plain", "trial")
RECENT = 12

# Of each start: the first row that holds. facts: boot, previous (boot id of the start before, "" when unknown),
# orderly (boot id of the start that was ended in order), cardreset (the watchdog's driver says so), panic (the kernel
# left a record of one), power (the board says: power came on), warm (the board says: reset while it had power).
REASONS = (
    ("first", lambda f: not f.get("previous")),
    ("same", lambda f: f["previous"] == f["boot"]),
    ("orderly", lambda f: f.get("orderly") == f["previous"]),
    ("panic", lambda f: bool(f.get("panic"))),
    ("watchdog", lambda f: bool(f.get("cardreset"))),
    ("power", lambda f: bool(f.get("power"))),
    ("warm", lambda f: bool(f.get("warm"))),
    ("unknown", lambda f: True),  # a board that cannot tell: held for a power cut
)

# (mode, what happened) -> (mode, change of the count). A power cut neither lengthens nor breaks the row: who sees a
# box fail pulls its plug. `None` sets the count to 0.
STARTS = {
    ("normal", "bad"): ("normal", 1),
    ("normal", "power"): ("normal", 0),
    ("normal", "orderly"): ("normal", None),
    ("plain", "bad"): ("plain", 1),
    ("plain", "power"): ("plain", 0),
    ("plain", "orderly"): ("plain", 0),
    ("trial", "bad"): ("plain", 1),
    ("trial", "power"): ("trial", 0),
    ("trial", "orderly"): ("trial", 0),
}

KINDS = {"watchdog": "bad", "panic": "bad", "warm": "bad", "power": "power", "unknown": "power", "orderly": "orderly"}


def clean(state):
    """The state as read from disk, whatever it was."""
    state = state if isinstance(state, dict) else {}
    count = state.get("count")
    recent = state.get("recent")
    return {
        "v": 1,
        "mode": state.get("mode") if state.get("mode") in MODES else "normal",
        "count": count if isinstance(count, int) and 0 <= count < 1000000 else 0,
        "boot": state.get("boot") if isinstance(state.get("boot"), str) else "",
        "reason": state.get("reason") if isinstance(state.get("reason"), str) else "",
        "recent": [word for word in recent if isinstance(word, str)][-RECENT:] if isinstance(recent, list) else [],
    }


def reason(facts):
    """Why this start happened: a word of REASONS."""
    for word, holds in REASONS:
        if holds(facts):
            return word


def start(state, facts, limit):
    """The state after this start. limit: resets in a row that make it a plain bridge."""
    state = clean(state)
    why = reason(facts)
    if why == "same":
        return state
    kind = KINDS.get(why)
    if kind is not None:
        mode, change = STARTS[(state["mode"], kind)]
        state["count"] = 0 if change is None else state["count"] + change
        state["mode"] = "plain" if mode == "normal" and kind == "bad" and state["count"] >= limit else mode
    state["boot"] = facts["boot"]
    state["reason"] = why
    state["recent"] = (state["recent"] + [why])[-RECENT:]
    return state


def later(state, mode_s, retry_s, stable_s):
    """The state after `mode_s` seconds in its mode since the start or the last change, and whether it changed."""
    if state["mode"] == "plain" and mode_s >= retry_s:
        return dict(state, mode="trial"), True
    if state["mode"] == "trial" and mode_s >= stable_s:
        return dict(state, mode="normal", count=0), True
    if state["mode"] == "normal" and state["count"] and mode_s >= stable_s:
        return dict(state, count=0), True
    return state, False
