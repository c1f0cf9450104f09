"""libbpf.so.1 as ctypes sees it: structures, signatures, errors. Used by `vigie.filter.libbpf` only.

Structures are those of libbpf 1.1; later versions append fields, and `sz` tells them which are there.
"""

from __future__ import annotations

import collections
import ctypes
import errno
import os
import threading
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Final, NoReturn

from vigie.errors import BpfError

ENOTSUPP: Final = 524  # kernel-internal "not supported" that BPF map operations leak to user space


class OpenOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t), ("object_name", c_char_p), ("relaxed_maps", ctypes.c_bool), ("pin_root_path", c_char_p),
        ("reserved", c_uint32), ("kconfig", c_char_p), ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p), ("kernel_log_size", c_size_t), ("kernel_log_level", c_uint32),
    ]  # fmt: skip


class MapCreateOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t), ("btf_fd", c_uint32), ("btf_key_type_id", c_uint32), ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32), ("inner_map_fd", c_uint32), ("map_flags", c_uint32),
        ("map_extra", c_uint64), ("numa_node", c_uint32), ("map_ifindex", c_uint32),
    ]  # fmt: skip


class BatchOpts(ctypes.Structure):
    _fields_ = [("sz", c_size_t), ("elem_flags", c_uint64), ("flags", c_uint64)]


class TestRunOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t), ("data_in", c_void_p), ("data_out", c_void_p),
        ("data_size_in", c_uint32), ("data_size_out", c_uint32), ("ctx_in", c_void_p), ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32), ("ctx_size_out", c_uint32), ("retval", c_uint32), ("repeat", c_int),
        ("duration", c_uint32), ("flags", c_uint32), ("cpu", c_uint32), ("batch_size", c_uint32),
    ]  # fmt: skip


class RawMapInfo(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32), ("id", c_uint32), ("key_size", c_uint32), ("value_size", c_uint32),
        ("max_entries", c_uint32), ("map_flags", c_uint32), ("name", ctypes.c_char * 16), ("rest", c_uint32 * 12),
    ]  # fmt: skip


class RawProgInfo(ctypes.Structure):
    """struct bpf_prog_info; only the fields before and after the arrays are used."""

    _fields_ = [
        ("type", c_uint32), ("id", c_uint32), ("tag", ctypes.c_ubyte * 8), ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32), ("jited_prog_insns", c_uint64), ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64), ("created_by_uid", c_uint32), ("nr_map_ids", c_uint32), ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16), ("ifindex", c_uint32), ("flags", c_uint32), ("netns_dev", c_uint64),
        ("netns_ino", c_uint64), ("nr_jited_ksyms", c_uint32), ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64), ("jited_func_lens", c_uint64), ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32), ("func_info", c_uint64), ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32), ("line_info", c_uint64), ("jited_line_info", c_uint64),
        ("nr_jited_line_info", c_uint32), ("line_info_rec_size", c_uint32), ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32), ("prog_tags", c_uint64), ("run_time_ns", c_uint64), ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64), ("verified_insns", c_uint32), ("rest", c_uint32 * 3),
    ]  # fmt: skip


_PrintFn = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
# A va_list argument is passed as one pointer on x86-64 (array type) and arm64 (large aggregate): taken and
# handed to vsnprintf as such.

_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "libbpf_set_print": (c_void_p, [_PrintFn]),
    "libbpf_version_string": (c_char_p, []),
    "libbpf_num_possible_cpus": (c_int, []),
    "bpf_object__open_file": (c_void_p, [c_char_p, POINTER(OpenOpts)]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__next_map": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__next_program": (c_void_p, [c_void_p, c_void_p]),
    "bpf_map__name": (c_char_p, [c_void_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__type": (c_int, [c_void_p]),
    "bpf_map__key_size": (c_uint32, [c_void_p]),
    "bpf_map__value_size": (c_uint32, [c_void_p]),
    "bpf_map__max_entries": (c_uint32, [c_void_p]),
    "bpf_map__map_flags": (c_uint32, [c_void_p]),
    "bpf_map__set_max_entries": (c_int, [c_void_p, c_uint32]),
    "bpf_map__set_pin_path": (c_int, [c_void_p, c_char_p]),
    "bpf_map__reuse_fd": (c_int, [c_void_p, c_int]),
    "bpf_program__name": (c_char_p, [c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_program__set_autoload": (c_int, [c_void_p, ctypes.c_bool]),
    "bpf_map_create": (c_int, [c_int, c_char_p, c_uint32, c_uint32, c_uint32, POINTER(MapCreateOpts)]),
    "bpf_map_lookup_elem": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_map_update_elem": (c_int, [c_int, c_void_p, c_void_p, c_uint64]),
    "bpf_map_delete_elem": (c_int, [c_int, c_void_p]),
    "bpf_map_get_next_key": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_map_lookup_batch": (
        c_int,
        [c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), POINTER(BatchOpts)],
    ),
    "bpf_map_update_batch": (c_int, [c_int, c_void_p, c_void_p, POINTER(c_uint32), POINTER(BatchOpts)]),
    "bpf_map_get_fd_by_id": (c_int, [c_uint32]),
    "bpf_obj_pin": (c_int, [c_int, c_char_p]),
    "bpf_obj_get": (c_int, [c_char_p]),
    "bpf_obj_get_info_by_fd": (c_int, [c_int, c_void_p, POINTER(c_uint32)]),
    "bpf_prog_test_run_opts": (c_int, [c_int, POINTER(TestRunOpts)]),
    "bpf_enable_stats": (c_int, [c_int]),
}

messages: collections.deque[str] = collections.deque(maxlen=200)
"""Latest warnings of libbpf, for error messages."""


def _print(level: int, fmt: bytes, args: int | None) -> int:
    if level < 2:  # LIBBPF_WARN, LIBBPF_INFO; debug is left out
        buffer = ctypes.create_string_buffer(4096)
        ctypes.pythonapi.PyOS_vsnprintf(buffer, c_size_t(len(buffer)), c_char_p(fmt), c_void_p(args))
        messages.append(buffer.value.decode("utf-8", "replace").rstrip())
    return 0


_print_callback = _PrintFn(_print)  # kept for the life of the process: libbpf holds the pointer


def _open_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as e:
        raise BpfError(f"libbpf.so.1 cannot be opened ({e}): install libbpf 1.1 or later (Debian: libbpf1)") from e
    for name, (restype, argtypes) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = restype, argtypes
    library.libbpf_set_print(_print_callback)
    return library


_library: ctypes.CDLL | None = None


def lib() -> ctypes.CDLL:
    """libbpf, opened at the first use: reading captures or help texts needs no kernel."""
    global _library
    if _library is None:
        _library = _open_library()
    return _library


_fence_lock = threading.Lock()


def fence() -> None:
    """Memory barrier: loads and stores before it are done before those after it, on this CPU.

    Python has none, and arm64 reorders plain accesses; an uncontended lock released, then taken again, is one
    (release store followed by acquire load).
    """
    with _fence_lock:
        pass
    with _fence_lock:
        pass


def errno_name(number: int) -> str:
    """`EPERM (Operation not permitted)`."""
    if number == ENOTSUPP:
        return "ENOTSUPP (not supported by this kernel)"
    if number >= 4000:  # enum libbpf_errno
        return f"libbpf error {number}"
    return f"{errno.errorcode.get(number, str(number))} ({os.strerror(number)})"


def fail(what: str, number: int, advice: str = "") -> NoReturn:
    """Raise BpfError for a negative or positive errno."""
    number = abs(number)
    if not advice and number == errno.EPERM:
        advice = "root (CAP_BPF, CAP_NET_ADMIN) is needed"
    raise BpfError(f"{what}: {errno_name(number)}{': ' + advice if advice else ''}", number)


def version() -> str:
    """Version of the library, as `v1.1`."""
    text: bytes = lib().libbpf_version_string()
    return text.decode()


def possible_cpus() -> int:
    """How many values a per-CPU element has."""
    count: int = lib().libbpf_num_possible_cpus()
    if count < 1:
        fail("number of possible CPUs", count)
    return count
