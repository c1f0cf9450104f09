# ruff: noqa: BLE001 -- whatever is wrong with the surroundings, the guardian starts
"""vigie guardian, for MicroPython 1.22 or later: `main.py run|judge|orderly|prepare|check [CONFIG]`.

run      supervises; never returns
judge    decides, before the data path is loaded, whether this start may load it
orderly  notes that this start ends in order
prepare  as root: the private path of its frames, the rights on LEDs
check    says what is wrong with a configuration; exit code 1 when something is
"""

import os
import socket
import struct
import sys

import config as board
import files
import libc

CONFIG = "/etc/vigie/guardian.json"
USER = "vigie-guardian"


def say(text):
    """One line to the journal. A journal that does not read must not hold the guardian up: the line is lost then."""
    try:
        sys.stderr.write("vigie-guardian: " + text + "\n")
    except OSError:
        pass


def _notifier():
    """A function that tells systemd something, and never waits."""
    path = os.getenv("NOTIFY_SOCKET")
    if not path:
        return lambda text: None
    name = path.encode()
    if name[:1] == b"@":
        name = b"\x00" + name[1:]
    else:
        name += b"\x00"
    address = struct.pack("H", socket.AF_UNIX) + name
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    wire.setblocking(False)

    def notify(text):
        try:
            wire.sendto(text.encode(), address)
        except OSError:
            pass

    return notify


def load(path):
    """(configuration, errors)."""
    return board.check(files.value(path), path)


def run(path):
    """Supervises."""
    import guardian
    import pattern

    if libc.HERE:
        try:
            libc.nonblocking(2)
        except OSError:
            pass
    config, errors = load(path)
    for error in errors:
        say(error)
    here = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
    try:
        legend = pattern.Legend(files.value(here + "/legend.json", 65536))
    except Exception as error:
        say("legend.json: " + repr(error) + "; the lamps mean nothing. Install the guardian again.")
        legend = pattern.Legend(pattern.EMPTY)
    files.folder(config["run"])
    guardian.Guardian(config, not errors, legend, say, _notifier()).run()


def judge(path):
    """Decides about this start."""
    import work

    answer = work.judge(load(path)[0])
    say("start: {reason}, mode {mode}, {count} resets in a row".format(**answer["state"]))
    if not answer["stored"]:
        say("that could not be stored (error {})".format(answer.get("error")))


def orderly(path):
    """Notes the end."""
    import work

    try:
        work.orderly(load(path)[0])
    except OSError as error:
        say(f"the end of this start could not be noted (error {error.errno})")


def _account(name):
    """(uid, gid) of a user; (0, 0) when there is none."""
    for line in (files.text("/etc/passwd", 65536) or "").split("\n"):
        fields = line.split(":")
        if len(fields) > 3 and fields[0] == name:
            return int(fields[2]), int(fields[3])
    return 0, 0


def prepare(path):
    """Makes the private path, hands over the LEDs."""
    import netlink

    config = load(path)[0]
    try:
        netlink.make(lambda name: files.number("{}/class/net/{}/ifindex".format(config["sysfs"], name)))
    except Exception as error:
        say("the private path could not be made: " + repr(error))
    uid, gid = _account(USER)
    if not libc.HERE or not uid:
        return
    names = [led["colours"][colour] for led in config["leds"] for colour in led["colours"]]
    if config["relay"]:
        names.append(config["relay"]["led"])
    for name in names:
        for attribute in ("brightness", "trigger"):
            try:
                libc.give("{}/class/leds/{}/{}".format(config["sysfs"], name, attribute), uid, gid, 0o644)
            except OSError as error:
                say(f"LED {name}: {attribute} cannot be handed over (error {error.errno})")


def check(path):
    """Says what is wrong."""
    errors = load(path)[1]
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


COMMANDS = {"run": run, "judge": judge, "orderly": orderly, "prepare": prepare, "check": check}

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in COMMANDS:
        print("usage: main.py run|judge|orderly|prepare|check [CONFIG]")
        sys.exit(2)
    COMMANDS[sys.argv[1]](sys.argv[2] if len(sys.argv) == 3 else CONFIG)
