"""What the virtual board must do, in the order in which it is tried. One start serves them all, then one power cut.

The names are those of the JSON line's `failed` (and of `make hil` on a real board).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab import plan
from vm import inside
from vm.office import Trickle, VmOffice

FORWARD_S = 600.0
"""how long a start may take before it counts as failed: the figures say how long it took, this only ends the wait"""
SERVICE_S = 600.0
ENROL_S = 600.0


@dataclass(frozen=True, slots=True)
class Expectation:
    """`sentence` is what people read (French)."""

    name: str
    sentence: str
    run: Callable[[VmOffice], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    expectation: Expectation
    held: bool
    evidence: str
    seconds: float


def boots(office: VmOffice) -> str:
    """Power on; the line opens; nothing toxic ever comes through."""
    office.facts["first"] = start(office, "")
    return str(office.facts["first"])


def start(office: VmOffice, suffix: str, *, program: bool = True) -> dict[str, float]:
    """Switch on under a steady stream from the office until the filter's program is at work; figures into `times`.

    program: False ends the stream once the early loader has a base in force and systemd has nothing left to do before
    ordinary services: enough where the question is whether the line opens, and as what.
    """
    machine = office.machine
    with Trickle(office.lab) as leak:
        machine.power_on()
        deadline = time.monotonic() + FORWARD_S
        while not leak.opened_at:
            if time.monotonic() > deadline or not machine.running:
                raise AssertionError(f"nothing is forwarded {FORWARD_S:.0f} s after power-on:\n{machine.tail()}")
            time.sleep(0.05)
        machine.wait_shell()
        figures = {"forward_s": leak.opened_at - machine.started_at}
        if program:
            office.until(lambda: inside.filtering(office), "the filter's program at work", SERVICE_S)
            figures["filter_s"] = time.monotonic() - machine.started_at
        else:
            office.until(lambda: inside.loaded(office), "the early loader's base in force", SERVICE_S)
            machine.wait("systemctl is-active sysinit.target", SERVICE_S)
        time.sleep(1.0)
    for name, value in figures.items():
        office.times[name.replace("_s", f"{suffix}_s")] = value
    office.times["unfiltered_ms"] = max(office.times.get("unfiltered_ms", 0.0), leak.unfiltered_ms)
    return {**figures, "leaked": len(leak.leaked)}


def forwards(office: VmOffice) -> str:
    """Both families, through the board."""
    pc = office["pc"]
    return "\n".join(pc.must_reach(address, plan.HTTPS, within=30).evidence for address in (plan.TOWN.v4, plan.TOWN.v6))


def never_unfiltered(office: VmOffice) -> str:
    """Not one listed frame came out while the board started."""
    if office.times["unfiltered_ms"] > 0:
        raise AssertionError(f"{office.facts['first']['leaked']} listed frames came through: {office.times}")
    if "first" not in office.facts:
        raise AssertionError("the board did not start")
    return "0 listed frames came through"


def before_python(office: VmOffice) -> str:
    """The line was open and filtered before the first Python process began."""
    proof = inside.python_starts(office)
    office.facts["before_python"] = proof.early_at < proof.first_python
    if not office.facts["before_python"]:
        raise AssertionError(f"Python came first:\n{proof}")
    return str(proof)


def object_loaded(office: VmOffice) -> str:
    """The eBPF object is in force on both ports, on the kernel of Debian 13."""
    early = office.file("/run/vigie-early.json").get("early", {})
    kernel = office.machine.shell("uname -r").require().out.strip()
    if early.get("base") is not True or early.get("plain"):
        raise AssertionError(f"the early loader has no base in force: {early}\n{office.evidence()}")
    for port in ("eth0", "eth1"):
        shown = office.machine.shell(f"tc filter show dev {port} ingress").require().out
        if "vigie_ingress" not in shown or "jited" not in shown:
            raise AssertionError(f"{port}: the program is not attached:\n{shown}")
    return f"kernel {kernel}: {early}"


def refused(office: VmOffice) -> str:
    """What the base of the workshop lists."""
    indicators = office.lab.indicators
    probes = [office["pc"].must_refuse_fast(address, plan.HTTPS, within=3.0)
              for address in (indicators.toxic4, indicators.toxic6)]  # fmt: skip
    return "\n".join(probe.evidence for probe in probes)


def enrols(office: VmOffice) -> str:
    """From the workshop's identity to a certificate and a session, without a human step."""
    office.until(office.enrolled, "enrolled", ENROL_S)
    # When the certificate was put in place, not when somebody asked: the board's clock is this machine's.
    made = office.machine.shell("stat -c %.3Z /data/vigie/enrol/current").require().out
    office.times["enrolled_s"] = float(made) - office.machine.started_wall
    rows, _ = office.department.wait_rows(
        "SELECT state, online FROM console_box JOIN console_boxstatus ON box_id = console_box.id "
        "WHERE console_box.id = ? AND state = 'active' AND online = 1", office.box, seconds=ENROL_S,
    )  # fmt: skip
    return f"{office.box}: department says {rows[0]['state']}, online {rows[0]['online']}"


def central_indicator(office: VmOffice) -> str:
    """The department's base replaces the workshop's; what only it lists is refused, and an alert arrives."""
    version = office.department.versions[-1]
    office.until(lambda: office.base_version() == version, f"base {version} in force", ENROL_S)
    office.times["central_s"] = time.monotonic() - office.machine.started_at
    probe = office["pc"].must_refuse_fast(plan.CENTRAL.v4, plan.HTTPS, within=3.0)
    office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS, within=10)
    return probe.evidence


def units(office: VmOffice) -> str:
    """systemd is satisfied: nothing failed, nothing waits."""
    office.until(lambda: inside.settled(office), "no job left in systemd's queue", SERVICE_S)
    state = office.machine.shell("systemctl is-system-running")
    failed = office.machine.shell("systemctl --failed --no-legend --plain").require().out.strip()
    if failed or state.out.strip() != "running":
        raise AssertionError(f"{state.evidence}\n{failed}\n{office.evidence()}")
    return state.out.strip()


def read_only(office: VmOffice) -> str:
    """The root is erofs over dm-verity and cannot be written; slot and root hash are on the command line."""
    return inside.root_is_verified(office)


def hard_reset(office: VmOffice) -> str:
    """Power cut while everything runs; the same disk starts again, filters from the first frame, is a member."""
    version = office.base_version()
    office.machine.power_cut()
    figures = start(office, "_again")
    if figures["leaked"]:
        raise AssertionError(f"listed frames came through after the power cut: {figures}")
    probe = office["pc"].must_refuse_fast(plan.CENTRAL.v4, plan.HTTPS, within=3.0)
    if office.base_version() != version:
        raise AssertionError(f"base {office.base_version()} in force after the power cut, was {version}")
    office.until(office.enrolled, "still enrolled", ENROL_S)
    office.until(
        lambda: office.file("/run/vigie/link/link-status.json").get("code") == "connected", "linked again", ENROL_S
    )
    return f"{figures}\n{probe.evidence}"


EXPECTATIONS: tuple[Expectation, ...] = (
    Expectation("boot", "La carte démarre et ouvre la ligne", boots),
    Expectation("forward", "Le trafic passe, en IPv4 et en IPv6", forwards),
    Expectation("never-unfiltered", "La ligne n'a jamais été ouverte sans filtrage", never_unfiltered),
    Expectation("before-python", "Le filtrage est en place avant le premier programme Python", before_python),
    Expectation("object-loaded", "Le programme eBPF est chargé par le noyau", object_loaded),
    Expectation("toxic-refused", "Une adresse toxique est refusée", refused),
    Expectation("read-only", "Le système est vérifié et en lecture seule", read_only),
    Expectation("enrolled", "La carte rejoint seule son département", enrols),
    Expectation("central-indicator", "La base du département arrive et protège", central_indicator),
    Expectation("units", "Tous les services vont bien", units),
    Expectation("hard-reset", "Après une coupure de courant, tout reprend", hard_reset),
)


def run(
    office: VmOffice, tell: Callable[[Outcome], None], wanted: Iterable[Expectation] = EXPECTATIONS
) -> list[Outcome]:
    """Each one, whatever became of those before it."""
    outcomes = []
    for expectation in wanted:
        begin = time.monotonic()
        try:
            evidence, held = expectation.run(office), True
        except AssertionError as failure:
            evidence, held = str(failure), False
        except Exception:  # noqa: BLE001 - a fault of one check must not hide the others; it counts as not held
            evidence, held = traceback.format_exc(), False
        outcome = Outcome(expectation, held, evidence, time.monotonic() - begin)
        outcomes.append(outcome)
        tell(outcome)
        if not held and expectation.name == "boot":
            break  # there is nobody to ask
    return outcomes
