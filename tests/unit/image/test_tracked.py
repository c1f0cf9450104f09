"""What an image ships is in git: a pattern meant for memory dumps once kept a part of the guardian out of clones."""

from __future__ import annotations

import re
import subprocess

from tests.unit.image.conftest import ROOT

SHIPPED = ("firmware", "package", "board", "configs", "overlays", "ota", "vm")
BUILT_IN = {"errno", "ffi", "gc", "json", "os", "select", "socket", "struct", "sys", "time", "uctypes"}
MADE = re.compile(r"(^|/)(__pycache__|\.ruff_cache|\.mypy_cache)/|\.mo$|^firmware/(bpf/build|dist)/|\.swp$")


def test_no_pattern_of_gitignore_hides_a_source() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", *SHIPPED],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert [name for name in listed.stdout.splitlines() if not MADE.search(name)] == []


def test_the_guardian_is_whole() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "firmware/guardian"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    modules = {name.rsplit("/", 1)[1].removesuffix(".py") for name in tracked if name.endswith(".py")}
    wanted = {
        word
        for name in tracked
        if name.endswith(".py")
        for word in re.findall(r"^\s*import ([a-z_]+)(?: as \w+)?$", (ROOT / name).read_text(), re.M)
    }
    assert {"core", "work"} <= wanted
    assert wanted - modules <= BUILT_IN
