"""`vigie base`: from feeds to a file, to an image, to a difference; exit codes and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vigie.cli import main
from vigie.errors import DaemonError
from vigie.filter import client
from vigie.filter.base.imageformat import verify_image
from vigie.filter.base.lookup import Lookup

FEEDS = """\
version: 1
feeds:
  - {name: hosts, file: hosts.txt, category: c2, direction: out, action: block, source: here, licence: CC0,
     redistributable: true}
  - {name: junk, file: junk.txt, category: spam, direction: in, action: block, source: here, licence: CC0,
     redistributable: false, format: plain}
"""


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    (tmp_path / "hosts.txt").write_text(
        "\n".join(["45.9.148.0/24", "185.234.52.7", "evil.example-bad.com", "10.1.2.3"])
    )
    (tmp_path / "junk.txt").write_text("".join(f"what is this {i}?\n" for i in range(50)))
    (tmp_path / "set.yaml").write_text(FEEDS)
    return tmp_path / "set.yaml"


def run_json(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_compile_show_diff_and_image(feeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, image = feeds.with_name("base.vgb"), feeds.with_name("base.img")
    done = run_json(capsys, "base", "compile", "--feeds", str(feeds), "-o", str(base), "--serial", "41")
    assert (done["serial"], done["v4"], done["names"]) == (41, 2, 1)
    assert [r["feed"] for r in done["refused"]] == ["junk"]
    assert [(p["indicator"], p["feed"], p["line"]) for p in done["protected"]] == [("10.1.2.3", "hosts", 4)]

    shown = run_json(capsys, "base", "show", str(base))
    assert (shown["serial"], shown["v4"], shown["names"]) == (41, 2, 1)
    assert shown["feeds"][0]["licence"] == "CC0"

    (feeds.with_name("hosts.txt")).write_text("45.9.148.0/24\n185.234.52.8\n")
    newer = feeds.with_name("newer.vgb")
    run_json(capsys, "base", "compile", str(feeds.with_name("hosts.txt")), "-o", str(newer), "--serial", "42")
    changes = run_json(capsys, "base", "diff", str(base), str(newer))
    assert (changes["from"], changes["to"]) == (41, 42)
    assert changes["samples"]["v4"]["added"] == ["185.234.52.8"]
    assert changes["samples"]["v4"]["removed"] == ["185.234.52.7"]
    assert changes["samples"]["names"]["removed"] == ["evil.example-bad.com"]

    run_json(capsys, "base", "apply", str(base), "--image", str(image))
    data = image.read_bytes()
    assert verify_image(data).serial == 41
    assert Lookup(data).address("45.9.148.77") != 0


def test_texts_for_people(feeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = feeds.with_name("base.vgb")
    assert main(["base", "compile", "--feeds", str(feeds), "-o", str(base), "--serial", "7"]) == 0
    out = capsys.readouterr().out
    assert "liste refusée : junk" in out
    assert "protégé : 1 × 10.0.0.0/8" in out
    assert "2 plages IPv4" in out
    assert main(["base", "show", str(base), "--sources"]) == 0
    assert "Base 7 du" in capsys.readouterr().out
    assert main(["base", "diff", str(base), str(base)]) == 0
    assert "De la base 7 à la base 7" in capsys.readouterr().out


def test_errors_and_exit_codes(feeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = feeds.with_name("base.vgb")
    assert main(["base", "compile", "-o", str(base)]) == 2
    assert main(["base", "compile", "--feeds", str(feeds), "-o", str(base), "--strict"]) == 2
    assert "junk" in capsys.readouterr().err
    assert not base.exists()
    assert main(["base", "compile", str(feeds.with_name("junk.txt")), "-o", str(base)]) == 1
    assert main(["base", "compile", str(feeds.with_name("absent")), "-o", str(base)]) == 1
    base.write_bytes(b"\x89VGB\r\n\x1a\n\x01\x00")
    for command in (["show", str(base)], ["apply", str(base)], ["diff", str(base), str(base)]):
        assert main(["base", *command]) == 1
        assert "base.vgb" in capsys.readouterr().err


def test_apply_hands_the_file_to_the_daemon(
    feeds: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = feeds.with_name("base.vgb")
    run_json(capsys, "base", "compile", "--feeds", str(feeds), "-o", str(base), "--serial", "9")
    asked: list[tuple[str, dict[str, object]]] = []

    def call(_socket: Path, op: str, /, **params: object) -> dict[str, object]:
        asked.append((op, params))
        return {"serial": 9}

    monkeypatch.setattr(client, "call", call)
    assert run_json(capsys, "base", "apply", str(base)) == {"serial": 9}
    assert asked == [("base-apply", {"path": str(base)})]

    def refuses(_socket: Path, op: str, /, **params: object) -> dict[str, object]:
        raise DaemonError("not running")

    monkeypatch.setattr(client, "call", refuses)
    assert main(["base", "apply", str(base)]) == 1
    assert main(["base", "show"]) == 1
