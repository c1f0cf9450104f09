"""Memory and start of the guardian, in the unix port of MicroPython, on this machine.

`start_ms`: from the moment at which a shell in the namespace replaces itself by the interpreter until the guardian
tells systemd READY=1: its watchdog is fed, configuration, legend and modules are read, its first frames were sent, its
first decision is made. It runs with the priority of its unit. `start_ms` is the median of 25 starts, `start_min_ms` the
fastest: the one that other work on this machine held up least. `start_cpu_ms` is the processor time in a start (median;
`start_cpu_min_ms`); `compile_cpu_min_ms` of it goes into compiling the modules, at best.

`rss_kb`: the largest resident memory (VmHWM) after 100 rounds with bridge, heartbeat, enrolment status and button;
`private_kb` of it belong to this process alone (the rest is the interpreter's file and the C library).

Peer: the same interpreter that only runs `pass` (`bare_rss_kb`, `bare_ms`: start to end), which nothing written for it
can go below. Where the interpreter is not the machine's own, it runs through the loader of an unpacked Debian, which is
part of both figures.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.common import result, significant, tell
from tests.support.guardianrig import HEAP, KEY, Rig, rig
from tests.support.micropython import GUARDIAN, ROOT, unix_port

STARTS = 25
ROUNDS = 100
LIMITS = {"rss_kb": 4096, "start_min_ms": 100, "start_cpu_ms": 100}
UNIT = ROOT / "package/vigie/vigie-guardian.service"


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
    waiting = ["nice", "-n", unit("Nice"), "sh", "-c", 'echo here; read go && exec "$@"', "sh"]
    at = argv.index("sh", argv.index("sh") + 1) + 1  # after the word that stands for $0 of the entering shell
    entered = box.box.command([*argv[:at], *waiting, *argv[at:]])
    box.told()
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(entered, stdin=pipe, stdout=pipe, stderr=nothing, env=box.world.environment) as made:
        try:
            if made.stdout is not None:
                made.stdout.readline()  # the shells have done their part
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


def unit(key: str) -> str:
    """A setting of the guardian's unit."""
    found = re.search(rf"^{key}=(.+)$", UNIT.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{UNIT}: says no {key}")
    return found[1]


def spent(program: str) -> tuple[float, float]:
    """(ms from start to end, ms of processor time) of one program in MicroPython."""
    began, before = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(["nice", "-n", unit("Nice"), *unix_port(), "-X", HEAP, "-c", program], check=True)
    wall, ended = (time.perf_counter() - before) * 1000, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, (ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime) * 1000


def modules() -> str:
    """A program that imports what `main.py run` imports, and does nothing with it."""
    names = sorted(path.stem for path in GUARDIAN.glob("*.py"))
    return f"import sys; sys.path.insert(0, {str(GUARDIAN)!r}); import {', '.join(names)}"


def bare() -> tuple[float, float, int]:
    """(ms, ms of processor time at best, largest resident kB) of the interpreter alone, from start to end."""
    runs = [spent("pass") for _ in range(STARTS)]
    idle = subprocess.Popen([*unix_port(), "-c", "import time; time.sleep(30)"])
    time.sleep(0.5)
    size = memory_kb(idle.pid, "status", "VmHWM")
    idle.kill()
    idle.wait(10)
    return median(wall for wall, _cpu in runs), min(cpu for _wall, cpu in runs), size


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
        walls, cpus = zip(*starts, strict=True)
        for name, found in (("start", walls), ("processor time of a start", cpus)):
            tell(f"{name}: {min(found):.1f} ms at best, {median(found):.1f} median, {max(found):.1f} at worst")
        process = box.start()
        for number in range(ROUNDS // 10):
            box.beat(number)
            box.ticks(10)
        figures = {
            "rss_kb": memory_kb(process.pid, "status", "VmHWM"),
            "private_kb": memory_kb(process.pid, "smaps_rollup", "Private_Dirty"),
            "start_ms": significant(median(walls)),
            "start_min_ms": significant(min(walls)),
            "start_cpu_ms": significant(median(cpus)),
            "start_cpu_min_ms": significant(min(cpus)),
        }
    bare_ms, bare_cpu_ms, bare_kb = bare()
    compiled = min(cpu for _wall, cpu in [spent(modules()) for _ in range(STARTS)])
    figures["compile_cpu_min_ms"] = significant(compiled - bare_cpu_ms)
    peer = {"bare_ms": significant(bare_ms), "bare_cpu_min_ms": significant(bare_cpu_ms), "bare_rss_kb": bare_kb}
    # The fastest start and the processor time are judged: other work makes the other starts longer, not the guardian.
    passed = [name for name, limit in LIMITS.items() if figures[name] > limit]
    for name in passed:
        tell(f"{name} is more than {LIMITS[name]}")
    result("guardian", figures, peer, rss_kb=figures["rss_kb"], start_ms=figures["start_ms"])
    return 1 if passed else 0


if __name__ == "__main__":
    raise SystemExit(main())
