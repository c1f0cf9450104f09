"""`vigie-factory`: identities, operators' keys, the register from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vigie.contract.identity import box_id, check_claim_id
from vigie_provisioning.factory import cli


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_OPERATOR_PASSPHRASE", "")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def go(*argv: object, code: int = 0) -> Any:
        assert cli.main(["--json", *map(str, argv)]) == code
        captured = capsys.readouterr()
        return json.loads(captured.out) if code == 0 else captured.err

    return go


def test_from_nothing_to_a_verified_register(tmp_path: Path, run: Any) -> None:
    key, register = tmp_path / "key", tmp_path / "register.jsonl"
    operator = run("operator-key", key, "--operator", "alice")
    assert key.stat().st_mode & 0o777 == 0o600
    made = run("identity", tmp_path / "id", "--serial", "VG-1", "--model", "cm4", "--lot", "L1")
    assert (tmp_path / "id" / "identity.key").stat().st_mode & 0o777 == 0o600
    label = json.loads((tmp_path / "id" / "box.json").read_text())
    assert (label["serial"], label["model"], label["lot"]) == ("VG-1", "cm4", "L1")
    assert check_claim_id(label["claim_id"]) == made["claim_id"]
    argv = ("--identity", tmp_path / "id", "--operator-key", key, "--operator", "alice")
    assert "--department" in run("register", register, *argv, code=2)
    added = run("register", register, *argv, "--department", "vigie.lab")
    assert (added["n"], added["known"], added["box"]) == (1, False, made["box"])
    assert run("register", register, *argv)["known"] is True
    operators = tmp_path / "operators.json"
    operators.write_text(json.dumps({"v": 1, "operators": [operator]}))
    verified = run("register", "verify", register, "--operators", operators)
    assert (verified["boxes"], verified["signatures"]) == (1, True)
    register.write_bytes(register.read_bytes().replace(b"L1", b"L2"))
    assert "2: the signature is wrong" in run("register", "verify", register, "--operators", operators, code=1)


def test_nothing_is_overwritten(tmp_path: Path, run: Any) -> None:
    run("operator-key", tmp_path / "key")
    assert "not overwritten" in run("operator-key", tmp_path / "key", code=2)
    run("identity", tmp_path / "id", "--serial", "VG-1", "--model", "cm4")
    assert "not overwritten" in run("identity", tmp_path / "id", "--serial", "VG-2", "--model", "cm4", code=2)


@pytest.mark.parametrize(
    ("option", "value"), [("--serial", "a b"), ("--model", "CM4"), ("--claim-id", "1234"), ("--image-digest", "x")]
)
def test_malformed_identities(tmp_path: Path, run: Any, option: str, value: str) -> None:
    values = {"--serial": "VG-1", "--model": "cm4"} | {option: value}
    run("identity", tmp_path / "id", *(word for pair in values.items() for word in pair), code=2)
    assert not (tmp_path / "id").exists()


def test_an_encrypted_operators_key(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_OPERATOR_PASSPHRASE", "secret")
    run("operator-key", tmp_path / "key")
    run("identity", tmp_path / "id", "--serial", "VG-1", "--model", "cm4")
    argv = ("register", tmp_path / "r", "--identity", tmp_path / "id", "--operator-key", tmp_path / "key")
    monkeypatch.setenv("VIGIE_OPERATOR_PASSPHRASE", "wrong")
    assert "wrong passphrase" in run(*argv, "--department", "vigie.lab", code=1)
    monkeypatch.setenv("VIGIE_OPERATOR_PASSPHRASE", "secret")
    run(*argv, "--department", "vigie.lab")


def test_the_box_id_is_that_of_the_key(tmp_path: Path, run: Any) -> None:
    import base64

    made = run("identity", tmp_path / "id", "--serial", "VG-1", "--model", "cm4")
    assert made["box"] == box_id(base64.b64decode(made["public"]))
