"""What to show and what to do, from what is seen: tables, no input and no output.

`see` is a dict; every key may be missing or None, which means "not known":
  config_ok   the board's configuration was accepted whole
  watchdog    the hardware watchdog is open
  evidence    "bridge", "lo" or "none": the way that the guardian's own frames take
  quiet_s     seconds since the last moment at which every processor had moved such a frame lately
  bridge      the bridge exists with at least two ports
  links       {port: carrier}
  stalled     frames come in on one port for a while and none leaves by another
  beat        "unknown" (not seen yet), "alive", "lost": the filter's heartbeat
  attached, base, loop   the filter's own words, valid while `beat` is alive
  enrol       the word of enrolment's status
  update      the word of the updater
  disk        "ok", "slow", "unwritable"
  mode        "normal", "plain", "trial" (policy.py)
  button      "", "held", "confirmed"
"""

UPDATING = ("installing", "downloading", "activating")


def _cut(see):
    return see.get("bridge") is False or see.get("stalled") is True


def _starving(see):
    return not feeds(see)


# One lamp after the other; of each, the first row that holds. A row's state is a row of legend.json.
LAMPS = (
    ("power", "confirmed", lambda see: see.get("button") == "confirmed"),
    ("power", "held", lambda see: see.get("button") == "held"),
    ("power", "restarting", _starving),
    ("power", "config", lambda see: see.get("config_ok") is False),
    ("power", "no-watchdog", lambda see: see.get("watchdog") is False),
    ("power", "disk", lambda see: see.get("disk") in ("slow", "unwritable")),
    ("power", "updating", lambda see: see.get("update") in UPDATING),
    ("power", "starting", lambda see: see.get("beat") == "unknown"),
    ("power", "on", lambda see: True),
    ("line", "cut", _cut),
    ("line", "no-link", lambda see: False in (see.get("links") or {}).values()),
    ("line", "", lambda see: bool(see.get("enrol"))),  # the word itself, or "other" when the legend has no such row
    ("line", "starting", lambda see: True),
    ("protection", "plain", lambda see: see.get("mode") == "plain"),
    ("protection", "silent", lambda see: see.get("beat") == "lost"),
    ("protection", "detached", lambda see: see.get("beat") == "alive" and see.get("attached") is False),
    ("protection", "trial", lambda see: see.get("mode") == "trial"),
    ("protection", "no-base", lambda see: see.get("beat") == "alive" and not see.get("base")),
    ("protection", "ok", lambda see: see.get("beat") == "alive"),
    ("protection", "starting", lambda see: True),
    ("loop", "loop", lambda see: see.get("beat") == "alive" and see.get("loop") is True),
    ("loop", "none", lambda see: True),
)

# Is the watchdog fed? First row that holds. Without evidence nothing is known against the kernel: a cut cable,
# silence, a missing interface and a dead filter never restart a box.
FEED = (
    (True, "no way to send a frame of its own", lambda see: see.get("evidence") in (None, "none")),
    (False, "its own frames do not come back", lambda see: (see.get("quiet_s") or 0) > see.get("quiet_max_s", 20)),
    (True, "its own frames come back", lambda see: True),
)

# The bypass relay, where there is one. None: leave it as it is. Not stalled: a box that isolates looks the same.
RELAY = (
    ("bypass", _starving),
    ("bypass", lambda see: see.get("bridge") is False),
    ("inline", lambda see: see.get("bridge") is True),
    (None, lambda see: True),
)


def feeds(see):
    """Whether the watchdog is fed now."""
    for answer, _why, holds in FEED:
        if holds(see):
            return answer


def relay(see):
    """`"inline"`, `"bypass"` or None."""
    for answer, holds in RELAY:
        if holds(see):
            return answer


def lamps(see, known):
    """{lamp: state}. known: the (lamp, state) pairs of the legend."""
    shown = {}
    for lamp, state, holds in LAMPS:
        if lamp not in shown and holds(see):
            if not state:
                state = see["enrol"] if (lamp, see["enrol"]) in known else "other"
            shown[lamp] = state
    return shown
