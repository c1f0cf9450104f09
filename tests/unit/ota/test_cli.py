"""The command line: every command explains itself, rollouts are the department's, refusals are sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigie_department import cli as department
from vigie_ota import cli


@pytest.mark.parametrize(
    "words",
    [(), ("keys", "create"), ("bundle", "build"), ("descriptor",), ("sign", "add"), ("publish",), ("drill",)],
)
def test_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    assert "usage: vigie-ota" in capsys.readouterr().out


def test_rollouts_are_the_departments(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for program in (cli, department):
        with pytest.raises(SystemExit) as ended:
            program.main(["rollout", "--help"])
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    for action in ("plan", "start", "pause", "resume", "abort", "status"):
        assert action in said[0]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("bundle", "verify", "no.raucb", "--keyring", "no.pem"), 1, "no.raucb: cannot be read"),
        (("sign", "show", "no.json"), 1, "no.json: cannot be read"),
        (("release", "show", "--root", "nowhere"), 2, "nowhere"),
        (("keys", "renew", "nowhere", "--passphrases", "words"), 1, "release-authority.key: cannot be read"),
        (("keys", "create", "new", "--passphrases", "one"), 2, "two lines are expected"),
    ],
)
def test_refusals(
    words: tuple[str, ...],
    code: int,
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_text("une phrase secrète\nune autre phrase\n", encoding="utf-8")
    (tmp_path / "one").write_text("une phrase secrète\n", encoding="utf-8")
    assert cli.main(words) == code
    said = capsys.readouterr().err
    assert said.startswith("vigie-ota: ")
    assert why in said
