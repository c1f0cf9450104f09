"""The program `vigie` as the publisher uses it: one process per step, JSON on its standard output.

The department does not import the box's code: what compiles here is what any box's command line compiles.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie_department.errors import PublishError

TIMEOUT_S: Final = 1800
#: The report of a compilation quotes every protected entry.
OUTPUT_MAX: Final = 256 << 20
_SHOWN: Final = 4000


@dataclass(frozen=True, slots=True)
class Compiler:
    """program: name or path; a bare name is looked for beside this Python first, then in PATH."""

    program: str = "vigie"
    allowlists: str = ""
    suffixes: str = ""

    def compile(self, feeds: Sequence[Path], output: Path, version: int) -> dict[str, Any]:
        """Feeds -> base file, without what boxes would refuse. The compiler's report."""
        more = ["--allowlists", self.allowlists] if self.allowlists else []
        more += ["--suffixes", self.suffixes] if self.suffixes else []
        argv = ["compile", *map(str, feeds), "-o", str(output), "--serial", str(version), "--for-boxes", *more]
        return self._run(argv)

    def show(self, base: Path) -> dict[str, Any]:
        """Header of a base file, with its digest and its feeds."""
        return self._run(["show", str(base)])

    def diff(self, old: Path, new: Path) -> dict[str, Any]:
        """Places added, removed and changed by kind, with samples."""
        return self._run(["diff", str(old), str(new)])

    def check(self, old: Path, new: Path) -> dict[str, Any]:
        """Whether a box that has `old` would take `new`: {ok, refusals: [{code, text}], covered, entries}."""
        return self._run(["check", str(old), str(new)], fine=(0, 1))

    def delta(self, old: Path, new: Path, output: Path) -> dict[str, Any]:
        """A delta file. PublishError also when the two cannot be told by a delta."""
        return self._run(["delta", str(old), str(new), "-o", str(output)])

    def candidate(self, released: Path, new: Path, output: Path, version: int) -> dict[str, Any]:
        """`released` with what `new` adds, only observed."""
        return self._run(["candidate", str(released), str(new), "-o", str(output), "--serial", str(version)])

    def renumber(self, base: Path, output: Path, version: int) -> dict[str, Any]:
        """The same content under another version."""
        return self._run(["renumber", str(base), "-o", str(output), "--serial", str(version)])

    def _run(self, argv: list[str], fine: tuple[int, ...] = (0,)) -> dict[str, Any]:
        command = [self._program(), "base", *argv, "--json"]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as e:
            raise PublishError(f"{' '.join(command[:3])}: {e}") from e
        text = done.stderr.decode("utf-8", "replace").strip()
        try:
            if done.returncode not in fine or len(done.stdout) > OUTPUT_MAX:
                raise ValueError(f"exit code {done.returncode}")
            answer = json.loads(done.stdout)
            if not isinstance(answer, dict) or "error" in answer:
                raise ValueError("an error")
        except ValueError as e:
            raise PublishError(f"`vigie base {argv[0]}` failed ({e}): {text[:_SHOWN]}") from e
        return answer

    def _program(self) -> str:
        if os.sep not in self.program:
            beside = Path(sys.executable).with_name(self.program)
            if beside.exists():
                return str(beside)
        found = shutil.which(self.program)
        if found is None:
            raise PublishError(
                f"the program `{self.program}` is not here: install the distribution `vigie`, or name it in "
                "publish.compiler of the configuration"
            )
        return found
