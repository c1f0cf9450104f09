"""Memory and start of the guardian, in the unix port of MicroPython, on this machine.

`start_ms`: from the moment at which a shell in the namespace replaces itself by the interpreter until the guardian
tells systemd READY=1: its watchdog is fed, configuration, legend and modules are read, its first frames were sent, its
first decision is made. Median of 15 starts; `start_cpu_ms` is the processor time in it, which other work on this
machine does not lengthen.

`rss_kb`: the largest resident memory (VmHWM) after 100 rounds with bridge, heartbeat, enrolment status and button;
`private_kb` of it belong to this process alone (the rest is the interpreter's file and the C library).

Peer: the same interpreter that only runs `pass` (`bare_rss_kb`, `bare_ms`: start to end), which nothing written for it
can go below. Where the interpreter is not the machine's own, it runs through the loader of an unpacked Debian, which is
part of both figures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.common import result, significant, tell
from tests.support.guardianrig import KEY, Rig, rig
from tests.support.micropython import unix_port

STARTS = 15
ROUNDS = 100
LIMITS = {"rss_kb": 4096, "start_cpu_ms": 100}


def memory_kb(pid: int, file: str, name: str) -> int:
    """One line of /proc/PID/FILE, in kB."""
    text = Path(f"/proc/{pid}/{file}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(name + ":")))


def cpu_ms(pid: int) -> float:
    """Processor time of a process so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def one_start(box: Rig) -> tuple[float, float]:
    """(ms, ms of processor time) of one start, until READY=1."""
    argv = box.argv("run")
    waiting = ["sh", "-c", 'read go && exec "$@"', "sh"]
    at = argv.index("sh", argv.index("sh") + 1) + 1  # after the word that stands for $0 of the entering shell
    entered = box.box.command([*argv[:at], *waiting, *argv[at:]])
    box.told()
    with subprocess.Popen(entered, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=box.world.environment) as made:
        try:
            time.sleep(0.2)  # the shells are there and wait
            cpu = cpu_ms(made.pid)
            box.notices.settimeout(10)
            before = time.perf_counter()
            if made.stdin is not None:
                made.stdin.write(b"go\n")
                made.stdin.flush()
            while "READY=1" not in box.notices.recv(256).decode():
                pass
            return (time.perf_counter() - before) * 1000, cpu_ms(made.pid) - cpu
        finally:
            box.notices.setblocking(False)
            made.kill()


def bare() -> tuple[float, int]:
    """(ms from start to end, largest resident kB) of the interpreter alone."""
    times = []
    for _ in range(STARTS):
        before = time.perf_counter()
        subprocess.run([*unix_port(), "-c", "pass"], check=True)
        times.append((time.perf_counter() - before) * 1000)
    idle = subprocess.Popen([*unix_port(), "-c", "import time; time.sleep(30)"])
    time.sleep(0.5)
    size = memory_kb(idle.pid, "status", "VmHWM")
    idle.kill()
    idle.wait(10)
    return median(times), size


def main() -> int:
    """Exit code: 0, or 1 when a limit of the design is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with rig(sys.executable) as box:
        box.config |= {"button": {"key": KEY}, "tick_ms": 50}
        box.key_device()
        box.box.bridge("br0")
        box.do("prepare")
        (box.folder / "enrol.json").write_text('{"code": "member"}')
        starts = [one_start(box) for _ in range(STARTS)]
        tell(f"start: {min(start for start, _ in starts):.1f} .. {max(start for start, _ in starts):.1f} ms")
        process = box.start()
        for number in range(ROUNDS // 10):
            box.beat(number)
            box.ticks(10)
        figures = {
            "rss_kb": memory_kb(process.pid, "status", "VmHWM"),
            "private_kb": memory_kb(process.pid, "smaps_rollup", "Private_Dirty"),
            "start_ms": significant(median(start for start, _ in starts)),
            "start_cpu_ms": significant(median(cpu for _, cpu in starts)),
        }
    bare_ms, bare_kb = bare()
    peer = {"bare_ms": significant(bare_ms), "bare_rss_kb": bare_kb}
    # The processor time is judged: other work on the machine makes the wall clock's figure longer, not the guardian.
    judged = {"rss_kb": figures["rss_kb"], "start_cpu_ms": figures["start_cpu_ms"]}
    passed = [name for name, value in judged.items() if value > LIMITS[name]]
    for name in passed:
        tell(f"{name} is more than {LIMITS[name]}")
    result("guardian", figures, peer, rss_kb=figures["rss_kb"], start_ms=figures["start_ms"])
    return 1 if passed else 0


if __name__ == "__main__":
    raise SystemExit(main())
