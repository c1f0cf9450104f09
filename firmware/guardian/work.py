"""What touches the disk: judging a start, storing a change, looking at enrolment. Run in a child (background.py) or by
a command of its own; each returns something that JSON knows."""

import json

import files
import policy
import watchdog

PM_POWER = 0x1000  # BCM2711 PM_RSTS: power came on
PM_WATCHDOG = 0x20  # full reset by the watchdog's timer, which is also how Linux restarts this chip


def boot_id(config):
    """The kernel's name of this start; "" when it has none."""
    return files.text(config["boot_id"], 64) or ""


def facts(config, state, boot):
    """What tells why this start happened (policy.REASONS)."""
    register = files.raw(config["pm_rsts"], 4) if config["pm_rsts"] else None
    bits = int.from_bytes(register, "big") if register and len(register) == 4 else 0
    left = (files.names(config["pstore"]) or ()) if config["pstore"] else ()
    return {
        "boot": boot,
        "previous": state["boot"],
        "orderly": files.text(config["state"] + "/orderly", 64),
        "cardreset": watchdog.cardreset(config["sysfs"], config["watchdog"], files.number),
        "panic": any(name.startswith("dmesg-") for name in left),
        "power": bool(bits & PM_POWER) and not bits & PM_WATCHDOG,
        "warm": bool(bits & PM_WATCHDOG) or any(name.startswith("console-") for name in left),
    }


def _mark(config, state):
    """The file that makes the data path stay away is there when, and only when, the mode is plain. Raises OSError."""
    path = config["state"] + "/plain"
    if state["mode"] != "plain":
        files.remove(path)
    elif not files.exists(path):
        files.put(path, "{} resets in a row, the last: {}\n".format(state["count"], state["reason"]), durable=True)


def store(config, state):
    """Writes the state, then the mark; when protection goes on trial this is done before it is loaded."""
    try:
        files.put(config["state"] + "/state.json", json.dumps(state), durable=True)
        _mark(config, state)
        return {"stored": True, "state": state}
    except OSError as error:
        return {"stored": False, "state": state, "error": error.errno}


def judge(config):
    """Judges this start, once; a later call in the same start changes nothing."""
    files.folder(config["state"])
    state = policy.clean(files.value(config["state"] + "/state.json"))
    boot = boot_id(config)
    after = policy.start(state, facts(config, state, boot), config["resets"])
    if (
        after == state
        and state["boot"] == boot
        and (state["mode"] == "plain") == files.exists(config["state"] + "/plain")
    ):
        return {"stored": True, "state": state}
    return store(config, after)


def reopened(config):
    """The guardian runs again in the same start: what its stop wrote is no longer true."""
    try:
        if files.text(config["state"] + "/orderly", 64) == boot_id(config):
            files.remove(config["state"] + "/orderly")
    except OSError:
        pass


def orderly(config):
    """This start ends in order. Raises OSError."""
    files.put(config["state"] + "/orderly", boot_id(config), durable=True)


def look(config):
    """Enrolment's word."""
    status = files.value(config["enrol"], 16384)
    code = status.get("code") if isinstance(status, dict) else None
    return {"enrol": code if isinstance(code, str) and len(code) < 40 else None}
