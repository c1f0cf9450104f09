"""Can this machine run the data path and the lab? Everything that is missing, in one message.

Nothing is guessed from a version number: each feature is tried, by a process in namespaces of its own that vanish with
it. Runs on the standard library alone, because it must be able to say why the rest cannot work.
Exit codes: 0 all is there, 1 something is missing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# Numbers of <linux/bpf.h>, <linux/sched.h>, <sys/mount.h>.
BPF_MAP_CREATE, BPF_PROG_LOAD, BPF_PROG_TEST_RUN = 0, 5, 10
PROG_SCHED_CLS, PROG_XDP = 3, 6
MAP_ARRAY, MAP_LPM_TRIE, MAP_ARRAY_OF_MAPS, MAP_RINGBUF = 2, 11, 12, 27
F_NO_PREALLOC, F_MMAPABLE, F_INNER_MAP = 1 << 0, 1 << 10, 1 << 12
TEST_XDP_LIVE_FRAMES = 1 << 1
FUNC_LOOP = 181
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
SYSCALL_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}

libc = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """One thing that is not there: French, then English."""

    def __init__(self, french: str, english: str) -> None:
        super().__init__(f"{french} / {english}")


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2). Returns the descriptor or 0; raises OSError."""
    number = SYSCALL_BPF[platform.machine()]
    buffer = ctypes.create_string_buffer(attributes, 144)  # longer than any attribute used here; the tail is zero
    result: int = libc.syscall(number, command, buffer, 144)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def instruction(code: int, registers: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One BPF instruction."""
    return struct.pack("=BBhi", code, registers, offset, value)


RETURN_1 = instruction(0xB7, 0, 0, 1) + instruction(0x95)  # r0 = 1 (XDP_DROP); exit


def load_program(kind: int, code: bytes) -> tuple[int, str]:
    """Descriptor (or -1) and the verifier's words."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(4096)
    attributes = struct.pack(
        "=IIQQIIQ",
        kind,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        1,
        len(log),
        ctypes.addressof(log),
    )
    try:
        return bpf(BPF_PROG_LOAD, attributes), ""
    except OSError as error:
        return -1, f"{error.strerror}: {log.value.decode(errors='replace')}"


def create_map(kind: int, key: int, value: int, entries: int, flags: int = 0, inner: int = 0) -> int:
    """Descriptor of a new map."""
    return bpf(BPF_MAP_CREATE, struct.pack("=IIIIII", kind, key, value, entries, flags, inner))


def run(*argv: str) -> None:
    """A command that must succeed; its words are in the error."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise OSError(0, f"{' '.join(argv)}: {((done.stderr or done.stdout).strip().splitlines() or ['?'])[0]}")


# --- what is tried ---------------------------------------------------------------------------------------------------


def try_tools() -> None:
    tools = ["ip", "tc", "nft", "ethtool", "nsenter", "dnsmasq", "nginx", "dig", "curl", "openssl", "sysctl"]
    tools += ["mosquitto", "udhcpc", "faketime", "setpriv"]
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        raise Missing("PostgreSQL absent (`make setup`)", "PostgreSQL not found (`make setup`)")
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        raise Missing(f"programmes absents : {', '.join(absent)} (`make setup`)", "programs not found (`make setup`)")


def try_bpf() -> None:
    if platform.machine() not in SYSCALL_BPF:
        raise Missing(f"processeur {platform.machine()} inconnu", "unknown processor: x86_64, aarch64, riscv64")
    descriptor, words = load_program(PROG_SCHED_CLS, RETURN_1)
    if descriptor < 0:
        raise Missing(
            f"le noyau refuse un programme eBPF ({words.strip()})",
            "the kernel refuses any eBPF program: CONFIG_BPF_SYSCALL, lockdown or a container without CAP_BPF",
        )
    os.close(descriptor)


def try_jit() -> None:
    switch = Path("/proc/sys/net/core/bpf_jit_enable")
    if not switch.exists() or switch.read_text(encoding="ascii").strip() == "0":
        raise Missing("compilation eBPF (JIT) inactive", "eBPF JIT is off: sysctl net.core.bpf_jit_enable=1")


def try_loop() -> None:
    # Called without its arguments: a kernel that knows the helper complains about them, another about the helper.
    _, words = load_program(PROG_SCHED_CLS, instruction(0x85, 0, 0, FUNC_LOOP) + instruction(0x95))
    if "func" in words and ("unknown" in words or "invalid func" in words):
        raise Missing("noyau sans bpf_loop : 5.17 au moins", "no bpf_loop in this kernel: 5.17 or later")


def try_maps() -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    inner = create_map(MAP_ARRAY, 4, page, 1, F_MMAPABLE | F_INNER_MAP)
    made = [inner, create_map(MAP_ARRAY_OF_MAPS, 4, 4, 2, 0, inner)]
    made += [create_map(MAP_RINGBUF, 0, 0, 16 * page), create_map(MAP_LPM_TRIE, 20, 8, 4, F_NO_PREALLOC)]
    for descriptor in made:
        os.close(descriptor)


def try_live_frames() -> None:
    program, words = load_program(PROG_XDP, RETURN_1)
    if program < 0:
        raise OSError(0, words)
    frame = ctypes.create_string_buffer(64)
    # prog_fd, retval, data_size_in and _out, data_in and _out, repeat, duration, ctx_size_in and _out, ctx_in and _out,
    # flags
    attributes = struct.pack(
        "=IIIIQQIIIIQQI", program, 0, 64, 0, ctypes.addressof(frame), 0, 1, 0, 0, 0, 0, 0, TEST_XDP_LIVE_FRAMES
    )
    try:
        bpf(BPF_PROG_TEST_RUN, attributes)
    finally:
        os.close(program)


def try_bpffs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if libc.mount(b"bpf", folder.encode(), b"bpf", 0, None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        libc.umount2(folder.encode(), 2)


def try_links() -> None:
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "add", "p0", "type", "veth", "peer", "name", "p1")
    run("ip", "link", "set", "p0", "master", "br0")


def try_clsact() -> None:
    run("ip", "link", "add", "q0", "type", "veth", "peer", "name", "q1")
    run("tc", "qdisc", "add", "dev", "q0", "clsact")
    # cls_bpf, with a program of two instructions in tc's own notation: r0 = 1; exit
    run("tc", "filter", "add", "dev", "q0", "ingress", "bpf", "bytecode", "1,6 0 0 1", "da")


def try_router() -> None:
    run("nft", "add table inet t; add chain inet t c { type nat hook postrouting priority 100; }")
    run("nft", "add rule inet t c oifname q0 masquerade")


def try_ipv6() -> None:
    if not Path("/proc/sys/net/ipv6/conf").is_dir():
        raise Missing("IPv6 absent du noyau", "no IPv6 in this kernel (ipv6.disable=1?)")


CHECKS: list[tuple[Callable[[], None], str, str]] = [
    (try_tools, "programmes", "programs"),
    (try_bpf, "eBPF", "eBPF"),
    (try_loop, "bpf_loop", "bpf_loop"),
    (try_maps, "tables eBPF (mmap imbriqué, ring buffer, LPM)", "eBPF maps (mmapable inner map, ring buffer, LPM)"),
    (try_live_frames, "trames XDP injectées (noyau 5.18)", "XDP live frames (kernel 5.18)"),
    (try_bpffs, "système de fichiers bpf", "bpf file system"),
    (try_links, "pont et paires veth", "bridge and veth pairs"),
    (try_clsact, "tc clsact et cls_bpf", "tc clsact and cls_bpf"),
    (try_router, "nf_tables avec NAT (routeur du labo)", "nf_tables with NAT (the lab's router)"),
    (try_ipv6, "IPv6", "IPv6"),
]


def missing_things() -> list[str]:
    """Runs every check inside new network and mount namespaces of this process."""
    found = []

    def attempt(check: Callable[[], None], french: str, english: str) -> None:
        try:
            check()
        except Missing as missing:
            found.append(str(missing))
        except (OSError, subprocess.SubprocessError) as error:
            found.append(f"{french} : refusé / {english}: refused ({error})")

    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    attempt(try_jit, "JIT eBPF", "eBPF JIT")  # first: other network namespaces do not show this switch
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        found.append(
            "espaces de noms réseau refusés (conteneur sans privilège ?) / network namespaces refused: "
            f"{os.strerror(ctypes.get_errno())} (an unprivileged container?)"
        )
        return found
    # Without this the bpf mount would be seen by the whole machine.
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    for check, french, english in CHECKS:
        attempt(check, french, english)
    return found


def main() -> int:
    """Print one message, or nothing."""
    if sys.platform != "linux":
        found = ["Linux est nécessaire / Linux is needed"]
    elif os.geteuid() != 0:
        found = ["droits de root (sudo) / root, or sudo"]
    else:
        found = missing_things()
    if not found:
        return 0
    lines = [
        f"Cette machine (Linux {platform.release()}) ne peut pas faire tourner Vigie. Il manque :",
        f"This machine (Linux {platform.release()}) cannot run Vigie. Missing:",
        *(f"  - {thing}" for thing in found),
    ]
    sys.stderr.write("\n".join(lines) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
