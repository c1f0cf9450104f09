"""The numpy types say the same as firmware/bpf/layout.h: sizes, offsets, constants, checked by a C compiler."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.errors import UsageError
from vigie.filter import abi

BPF_DIR = Path(__file__).parents[3] / "firmware" / "bpf"


def header_constants() -> list[str]:
    """Every object-like macro of layout.h that has a value, and the kinds of class policy."""
    text = (BPF_DIR / "layout.h").read_text()
    names = re.findall(r"^#define (\w+)[ \t]+[^\\\n]", text, flags=re.MULTILINE)
    assert "LAYOUT_VERSION" in names and len(names) > 30
    return [*names, "PK_DEFAULT", "PK_COUNTRY", "PK_AS"]


def compile_and_run(tmp_path: Path, body: str) -> dict[str, int]:
    """Compile a program whose body prints `name value` lines; return them."""
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("clang-14")
    assert compiler, "no C compiler: make setup installs gcc and clang"
    source = tmp_path / "probe.c"
    source.write_text('#include <stdio.h>\n#include <stddef.h>\n#include "verdicts.h"\n#include "layout.h"\n'
                      f"int main(void)\n{{\n{body}\treturn 0;\n}}\n")  # fmt: skip
    binary = tmp_path / "probe"
    built = subprocess.run([compiler, "-I", str(BPF_DIR), "-o", str(binary), str(source)],
                           capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert built.returncode == 0, built.stderr
    out = subprocess.run([str(binary)], capture_output=True, text=True, timeout=10, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


def test_every_field_of_every_structure(tmp_path: Path) -> None:
    body = ""
    expected: dict[str, int] = {}
    for name, dtype in abi.STRUCTS.items():
        body += f'\tprintf("{name} %zu\\n", sizeof(struct {name}));\n'
        expected[name] = dtype.itemsize
        assert dtype.fields is not None and dtype.names is not None
        for field in dtype.names:
            subtype, offset = dtype.fields[field][:2]
            label = f"{name}.{field}"
            body += f'\tprintf("{label}@ %zu\\n", offsetof(struct {name}, {field}));\n'
            body += f'\tprintf("{label}# %zu\\n", sizeof(((struct {name} *)0)->{field}));\n'
            expected[label + "@"], expected[label + "#"] = offset, subtype.itemsize
    found = compile_and_run(tmp_path, body)
    assert {k: (found[k], expected[k]) for k in expected if found[k] != expected[k]} == {}


def test_no_structure_of_the_header_is_missing() -> None:
    text = re.sub(r"/\*.*?\*/", "", (BPF_DIR / "layout.h").read_text(), flags=re.S)
    assert set(re.findall(r"^struct (\w+) \{", text, flags=re.M)) == set(abi.STRUCTS)


def test_no_byte_is_outside_a_field() -> None:
    for name, dtype in abi.STRUCTS.items():
        assert dtype.fields is not None
        assert sum(f[0].itemsize for f in dtype.fields.values()) == dtype.itemsize, name


def test_constants(tmp_path: Path) -> None:
    body = "".join(f'\tprintf("{name} %llu\\n", (unsigned long long){name});\n' for name in header_constants())
    found = compile_and_run(tmp_path, body)
    assert found == {name: getattr(abi, name) for name in header_constants()}


def test_port6_key_is_the_header_s(tmp_path: Path) -> None:
    hi, lo, port = 0x20010DB800010002, 0xFFFFFFFFFFFFFFFE, 65535
    found = compile_and_run(
        tmp_path, f'\tprintf("k %llu\\n", (unsigned long long)port6_key({hi}ull, {lo}ull, {port}));\n'
    )
    assert found["k"] == abi.port6_key(hi, lo, port)


def test_section_names_are_the_header_s() -> None:
    assert set(abi.SECTION_NAMES) == set(abi.SECTION_TYPES)
    assert [n for n in abi.IMAGE_HEADER.names or () if abi.IMAGE_HEADER[n] == abi.SECTION] == list(abi.SECTION_NAMES)


@given(st.ip_addresses())
def test_addresses_round_trip(address: object) -> None:
    raw = abi.address_bytes(address)  # type: ignore[arg-type]
    assert len(raw) == 16
    text = abi.address_text(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    assert text == str(mapped or address)


@given(st.integers(0, 128))
def test_mask(bits: int) -> None:
    assert abi.mask_bytes(bits) == bytes(np.packbits([1] * bits + [0] * (128 - bits)))


def test_prefix_bits() -> None:
    assert abi.prefix_bits("192.0.2.0/24") == (abi.MAPPED_PREFIX + b"\xc0\x00\x02\x00", 120)
    assert abi.prefix_bits("2001:db8::/32")[1] == 32
    with pytest.raises(UsageError, match="host bits"):
        abi.prefix_bits("192.0.2.1/24")


def test_mac() -> None:
    assert abi.mac_text(abi.mac_bytes("02:00:5E-10-00-01")) == "02:00:5e:10:00:01"
    assert abi.mac_bytes(None) == bytes(6)
    for bad in ("2:0:5e:10:0:1", "02:00:5e:10:00", "zz:00:5e:10:00:01"):
        with pytest.raises(UsageError, match="MAC"):
            abi.mac_bytes(bad)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535))
def test_meta_round_trip(epoch: int, verdict: int, reason: int, check: int) -> None:
    assert abi.split_meta(abi.join_meta(epoch, verdict, reason, check)) == (epoch, verdict, reason, check)


def test_generation_wraps() -> None:
    assert abi.gen_join(0x3FFFFFFF + 1, 1, 0) == 2
    assert abi.gen_parts(abi.gen_join(7, 0, 1)) == (7, 0, 1)


def test_name_hash_ignores_case_and_root() -> None:
    key, seed = 0x9E3779B97F4A7C15, 1234567
    assert abi.name_hash("Www.Example.fr.", key, seed) == abi.name_hash(b"www.example.fr", key, seed)
    # By hand, in C's arithmetic, for a two-byte name.
    h = ctypes.c_uint64(seed)
    for byte in b"ba":
        h.value = (h.value ^ byte) * key
    h.value ^= h.value >> 32
    h.value *= abi.NAME_FINAL
    assert abi.name_hash("ab", key, seed) == h.value


def test_pack_and_unpack() -> None:
    raw = abi.pack(abi.DYNAMIC_KEY, mac=b"\x02\0\0\0\0\x01", addr=abi.address_bytes("192.0.2.1"))
    assert len(raw) == 24
    assert bytes(abi.unpack(abi.DYNAMIC_KEY, raw)["addr"])[-4:] == bytes([192, 0, 2, 1])
