"""The board's configuration: every key has a default that is safe, a bad value is named and replaced by it.

A wrong file must not cost the watchdog its owner, so nothing here raises.
"""

NUMBER = "a whole number from {} to {}"

# key: (default, what it must be, check)
_path = ("an absolute path", lambda value: isinstance(value, str) and value.startswith("/"))
_path_or_none = ("an absolute path, or empty", lambda value: isinstance(value, str) and value[:1] in ("", "/"))
_name = ("a name", lambda value: isinstance(value, str) and 0 < len(value) < 64 and "/" not in value)


def _number(low, high):
    return (NUMBER.format(low, high), lambda value: type(value) is int and low <= value <= high)


def _button(value):
    return value is None or (isinstance(value, dict) and type(value.get("key")) is int and 0 < value["key"] < 768)


def _relay(value):
    return value is None or (isinstance(value, dict) and _name[1](value.get("led")) and value.get("inline") in (0, 1))


def _leds(value):
    if not isinstance(value, list):
        return False
    for led in value:
        if (
            not isinstance(led, dict)
            or not isinstance(led.get("lamps"), list)
            or not isinstance(led.get("colours"), dict)
        ):
            return False
        if not led["lamps"] or not led["colours"]:
            return False
        for lamp in led["lamps"]:
            if lamp not in ("power", "line", "protection", "loop"):
                return False
        for colour in led["colours"]:
            if colour not in ("green", "amber", "red") or not _name[1](led["colours"][colour]):
                return False
    return True


KEYS = {
    "board": ("unknown",) + _name,
    "watchdog": ("/dev/watchdog0",) + _path,
    "watchdog_s": (30,) + _number(10, 120),
    "bridge": ("br0",) + _name,
    "leds": ([], 'a list of {"lamps": [power|line|protection|loop], "colours": {green|amber|red: LED}}', _leds),
    "button": (None, 'null or {"key": number of a key}', _button),
    "relay": (None, 'null or {"led": name, "inline": 0 or 1}', _relay),
    "resets": (3,) + _number(2, 20),
    "sysfs": ("/sys",) + _path,
    "input": ("/dev/input",) + _path,
    "boot_id": ("/proc/sys/kernel/random/boot_id",) + _path,
    "pm_rsts": ("",) + _path_or_none,
    "pstore": ("/sys/fs/pstore",) + _path_or_none,
    "heartbeat": ("/run/vigie/heartbeat.json",) + _path,
    "enrol": ("/data/vigie/enrol/status.json",) + _path,
    "update": ("/run/vigie/update.json",) + _path,
    "pin_wanted": ("/run/vigie-page/pin-wanted",) + _path,
    "lamp_test": ("/run/vigie/lamp-test",) + _path,
    "early": ("/run/vigie-early.json",) + _path,
    "state": ("/data/guardian",) + _path,
    "run": ("/run/vigie-guardian",) + _path,
    "tick_ms": (1000,) + _number(50, 2000),
    "quiet_max_s": (20,) + _number(2, 60),
    "beat_lost_s": (10,) + _number(3, 300),
    "bridge_gone_s": (10,) + _number(1, 300),
    "stalled_s": (60,) + _number(5, 3600),
    "disk_slow_s": (10,) + _number(1, 120),
    "unwritable_s": (120,) + _number(1, 3600),
    "short_ms": (2000,) + _number(200, 5000),
    "reset_ms": (10000,) + _number(1000, 30000),
    "stuck_ms": (20000,) + _number(2000, 60000),
    "retry_s": (3600,) + _number(1, 86400),
    "stable_s": (21600,) + _number(1, 604800),
}


def defaults():
    """A configuration that is safe on any board: no lamp, no button, the first watchdog."""
    return {key: KEYS[key][0] for key in KEYS}


def check(value, where):
    """(configuration, list of errors). value: what the file said, or None when it could not be read."""
    config, errors = defaults(), []
    if not isinstance(value, dict):
        return config, [where + ": not a JSON object; every setting has its default. Install the board's file again."]
    for key in value:
        if key == "note":
            continue
        if key not in KEYS:
            errors.append(f"{where}: {key} is no setting; it is left aside. Correct its name or take it out.")
        elif not KEYS[key][2](value[key]):
            errors.append(f"{where}: {key} must be {KEYS[key][1]}; its default is used.")
        else:
            config[key] = value[key]
    if not config["short_ms"] < config["reset_ms"] < config["stuck_ms"]:
        errors.append(where + ": short_ms < reset_ms < stuck_ms does not hold; their defaults are used.")
        for key in ("short_ms", "reset_ms", "stuck_ms"):
            config[key] = KEYS[key][0]
    return config, errors
