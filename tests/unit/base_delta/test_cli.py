"""`vigie base delta|patch|candidate|renumber|check`: files, exit codes, words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.base_delta.bases import simple, written
from vigie.cli import main
from vigie.filter.base.basefile import load_base
from vigie.filter.base.names import name_keys


def run_json(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main([*argv, "--json"]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    old = written(tmp_path / "1.vgb", simple(1, ["45.1.1.1", "45.1.1.9"], ["a.example"]))
    new = written(tmp_path / "2.vgb", simple(2, ["45.1.1.1", "45.1.2.9"], ["a.example", "b.example"]))
    return str(old), str(new)


def test_delta_and_patch(two: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    delta, again = tmp_path / "d.vgd", tmp_path / "again.vgb"
    said = run_json(capsys, "base", "delta", *two, "-o", str(delta))
    assert (said["from"], said["to"], said["changes"], said["identical"]) == (1, 2, 3, True)
    assert said["sha256"] == hashlib.sha256(delta.read_bytes()).hexdigest() and said["bytes"] == delta.stat().st_size
    patched = run_json(capsys, "base", "patch", two[0], str(delta), "-o", str(again))
    assert again.read_bytes() == Path(two[1]).read_bytes()
    shown = run_json(capsys, "base", "show", str(again))
    assert (shown["version"], shown["content"], shown["sha256"]) == (2, patched["content"], patched["sha256"])
    assert (shown["flags"], shown["candidate"]) == (0, False)
    assert main(["base", "patch", two[1], str(delta), "-o", str(tmp_path / "x")]) == 1
    assert "another one" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert main(["base", "delta", *two, "-o", str(delta)]) == 0
    assert "de la base 1 à la base 2, 3 changements" in capsys.readouterr().out


def test_no_delta_between_name_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = simple(2)
    new.name_key, new.name_seed = name_keys(1)
    files = [str(written(tmp_path / "1.vgb", simple(1))), str(written(tmp_path / "2.vgb", new))]
    assert main(["base", "delta", *files, "-o", str(tmp_path / "d.vgd")]) == 1
    assert "whole base" in capsys.readouterr().err


def test_candidate_and_renumber(two: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.vgb"
    said = run_json(capsys, "base", "candidate", *two, "-o", str(out), "--serial", "3")
    assert (said["version"], said["added"]) == (3, 2)
    assert run_json(capsys, "base", "show", str(out))["candidate"] is True
    run_json(capsys, "base", "renumber", two[0], "-o", str(out), "--serial", "4")
    assert load_base(out).serial == 4 and load_base(out).texts == ["a.example"]
    with pytest.raises(SystemExit):
        main(["base", "renumber", two[0], "-o", str(out), "--serial", "-4"])


def test_check(two: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = run_json(capsys, "base", "check", *two)
    assert good["ok"] and good["refusals"] == []
    assert good["covered"]["added4"] == 1 and good["entries"] == {"old": 3, "new": 4}
    wide = str(written(tmp_path / "3.vgb", simple(3, ["46.0.0.0/8"])))
    bad = run_json(capsys, "base", "check", two[0], wide, code=1)
    assert not bad["ok"] and {r["code"] for r in bad["refusals"]} == {"limit-prefix4", "limit-cover4"}
    assert main(["base", "check", two[0], wide]) == 1
    assert "! [limit-prefix4]" in capsys.readouterr().out
    assert main(["base", "check", wide, wide]) == 2


def test_compiling_for_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed, out = tmp_path / "nets.txt", str(tmp_path / "b.vgb")
    feed.write_text("45.0.0.0/12\n46.1.0.0/16\n47.1.2.3\n48.1.2.3\n49.1.2.3\n")
    said = run_json(capsys, "base", "compile", str(feed), "-o", out, "--for-boxes")
    assert (said["v4"], said["too_short"]) == (4, {"nets": 1})
    assert main(["base", "compile", str(feed), "-o", out, "--for-boxes"]) == 0
    assert "1 plages plus larges" in capsys.readouterr().out
