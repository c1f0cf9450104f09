"""The register: chain, signatures, torn ends, and what an import refuses."""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract.identity import claim_id
from vigie_provisioning.authority import schema
from vigie_provisioning.authority.checks import spki
from vigie_provisioning.authority.importing import import_register
from vigie_provisioning.authority.profiles import new_key
from vigie_provisioning.errors import ConfigError, RegisterError
from vigie_provisioning.factory import book
from vigie_provisioning.factory.book import Article
from vigie_provisioning.register import Operator, raw_public, read_operators, read_register

DOMAIN = "vigie.lab"


def article(n: int, **changes: Any) -> Article:
    values = {
        "serial": f"VG-{n:05d}",
        "claim_id": claim_id(n.to_bytes(7, "big")),
        "public": spki(new_key().public_key()),
        "image": "ab" * 32,
        "lot": "2026-11",
        "model": "cm4",
    }
    return Article(**(values | changes))


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def operators(key: Ed25519PrivateKey) -> dict[str, Operator]:
    alice = Operator("alice", raw_public(key))
    return {alice.key: alice}


@pytest.fixture
def path(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    """A register of three boxes."""
    path = tmp_path / "register.jsonl"
    for n in range(1, 4):
        added = book.append(path, key, "alice", DOMAIN, article(n), 1000 + n)
        assert (added.entry.n, added.known, added.mended) == (n, False, "")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Any:
    db = schema.open_store(tmp_path / "authority.db")
    yield db
    db.close()


def test_a_register_holds_together(path: Path, operators: dict[str, Operator]) -> None:
    register = read_register(path.read_bytes(), operators, path)
    assert [entry.serial for entry in register.entries] == ["VG-00001", "VG-00002", "VG-00003"]
    assert (register.department, register.torn) == (DOMAIN, b"")
    first = json.loads(path.read_text().splitlines()[1])
    assert {"serial", "claim_id", "public", "image", "operator", "at", "lot", "model"} <= set(first)


def changed(text: bytes, line: int, **fields: Any) -> bytes:
    lines = text.splitlines()
    entry = json.loads(lines[line - 1]) | fields
    lines[line - 1] = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    ("change", "line", "match"),
    [
        (lambda t: b"".join(t.splitlines(True)[:2] + t.splitlines(True)[3:]), 3, "does not follow the line before"),
        (lambda t: changed(t, 3, lot="other"), 3, "signature is wrong"),
        (lambda t: changed(t, 4, serial="VG-00009"), 4, "signature is wrong"),
        (lambda t: changed(t, 2, key="0" * 64), 2, "not in the list of operators"),
        (lambda t: changed(t, 2, operator="mallory"), 2, "not in the list of operators"),
        (lambda t: t.replace(b'"n":2', b'"n": 2'), 3, "canonical"),
        (lambda t: t.replace(b'"v":1', b'"v":2', 1), 1, "signature is wrong"),
        (lambda t: b"".join(t.splitlines(True)[1:]), 1, "does not follow"),
        (lambda t: b"\n" + t, 1, "not JSON"),
        (lambda t: t + b"{}\n", 5, "does not follow|canonical"),
        (lambda _t: b"", None, "no whole line"),
    ],
)
def test_what_does_not_hold(
    path: Path, operators: dict[str, Operator], change: Any, line: int | None, match: str
) -> None:
    with pytest.raises(RegisterError, match=match) as caught:
        read_register(change(path.read_bytes()), operators, path)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{path}:{line}:" if line else f"{path}:")


def test_operators_have_a_time(path: Path, key: Ed25519PrivateKey) -> None:
    for since, until, good in ((0, 2000, True), (1002, 0, False), (0, 1002, False)):
        alice = Operator("alice", raw_public(key), since, until)
        if good:
            read_register(path.read_bytes(), {alice.key: alice}, path)
        else:
            with pytest.raises(RegisterError, match="outside the time"):
                read_register(path.read_bytes(), {alice.key: alice}, path)


def test_the_same_box_twice_is_known(path: Path, key: Ed25519PrivateKey) -> None:
    entry = read_register(path.read_bytes(), None, path).entries[1]
    same = Article(entry.serial, entry.claim_id, entry.public, entry.image, entry.lot, entry.model)
    before = path.read_bytes()
    assert book.append(path, key, "alice", DOMAIN, same, 2000).known
    assert path.read_bytes() == before


@pytest.mark.parametrize("field", ["serial", "claim_id", "public"])
def test_duplicates_are_refused(path: Path, key: Ed25519PrivateKey, field: str) -> None:
    entry = read_register(path.read_bytes(), None, path).entries[1]
    before = path.read_bytes()
    with pytest.raises(RegisterError, match="was registered in line 3 already"):
        book.append(path, key, "alice", DOMAIN, article(9, **{field: getattr(entry, field)}), 2000)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [{"serial": "a b"}, {"claim_id": "0000"}, {"public": b"x"}, {"image": "zz"}, {"model": "CM 4"}, {"lot": "é"}],
)
def test_malformed_articles_are_refused(path: Path, key: Ed25519PrivateKey, wrong: dict[str, Any]) -> None:
    before = path.read_bytes()
    with pytest.raises(RegisterError, match="not an entry"):
        book.append(path, key, "alice", DOMAIN, article(9, **wrong), 2000)
    assert path.read_bytes() == before


def test_another_departments_register(path: Path, key: Ed25519PrivateKey) -> None:
    with pytest.raises(RegisterError, match=r"is the register of vigie\.lab"):
        book.append(path, key, "alice", "other.example", article(9), 2000)


def test_power_cut_at_every_byte(tmp_path: Path, key: Ed25519PrivateKey, operators: dict[str, Operator]) -> None:
    """Whatever part of the last line reached the disk, the next registration goes on, and the chain holds."""
    path = tmp_path / "r"
    for n in (1, 2):
        book.append(path, key, "alice", DOMAIN, article(n), n)
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in (0, 1, 5, start - 1, start, start + 1, start + 200, len(whole) - 2, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:cut])
        added = book.append(path, key, "alice", DOMAIN, article(9), 9)
        register = read_register(path.read_bytes(), operators, path)
        assert added.entry == register.entries[-1]
        assert register.entries[-1].serial == "VG-00009"
        assert len(register.entries) == 1 + sum(cut >= end for end in (start - 1, len(whole) - 1)), cut
        torn = list(tmp_path.glob("r.torn-*"))
        assert sum(file.stat().st_size for file in torn) <= cut
        for file in torn:
            file.unlink()


def test_two_stations_on_one_file(tmp_path: Path, key: Ed25519PrivateKey, operators: dict[str, Operator]) -> None:
    path = tmp_path / "r"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: book.append(path, key, "alice", DOMAIN, article(n), n), range(24)))
    register = read_register(path.read_bytes(), operators, path)
    assert {entry.serial for entry in register.entries} == {f"VG-{n:05d}" for n in range(24)}


# -- importing


def test_import_and_import_again(
    path: Path, key: Ed25519PrivateKey, operators: dict[str, Operator], store: Any
) -> None:
    done = import_register(store, path.read_bytes(), operators, DOMAIN, path, 5000)
    assert (done.added, done.known) == (3, 0)
    book.append(path, key, "alice", DOMAIN, article(4), 2000)
    done = import_register(store, path.read_bytes() + b'{"n":', operators, DOMAIN, path, 6000)
    assert (done.added, done.known, done.torn) == (1, 3, 5)
    events = store.execute("SELECT serial, at FROM events WHERE kind = 'registered' ORDER BY id").fetchall()
    assert [tuple(row) for row in events] == [(f"VG-{n:05d}", 5000 if n < 4 else 6000) for n in range(1, 5)]
    done = import_register(store, path.read_bytes(), operators, DOMAIN, path, 7000)
    assert (done.added, done.known) == (0, 4)


def test_a_fork_is_refused(path: Path, key: Ed25519PrivateKey, operators: dict[str, Operator], store: Any) -> None:
    """Somebody with an operator's key rewrites what was imported."""
    import_register(store, path.read_bytes(), operators, DOMAIN, path, 5000)
    kept = path.read_bytes()
    path.write_bytes(b"".join(kept.splitlines(True)[:3]))
    for n in (3, 4, 5):
        book.append(path, key, "alice", DOMAIN, article(n, lot="fork"), 2000)
    with pytest.raises(RegisterError, match="the register forks here") as caught:
        import_register(store, path.read_bytes(), operators, DOMAIN, path, 6000)
    assert caught.value.line == 4


def test_a_shortened_register_is_refused(path: Path, operators: dict[str, Operator], store: Any) -> None:
    import_register(store, path.read_bytes(), operators, DOMAIN, path, 5000)
    short = b"".join(path.read_bytes().splitlines(True)[:3])
    with pytest.raises(RegisterError, match="its end was cut off"):
        import_register(store, short, operators, DOMAIN, path, 6000)


def test_a_second_register_needs_a_word(
    path: Path, tmp_path: Path, key: Ed25519PrivateKey, operators: dict[str, Operator], store: Any
) -> None:
    import_register(store, path.read_bytes(), operators, DOMAIN, path, 5000)
    other = tmp_path / "other"
    book.append(other, key, "alice", DOMAIN, article(70), 1)
    with pytest.raises(RegisterError, match="--new"):
        import_register(store, other.read_bytes(), operators, DOMAIN, other, 6000)
    assert import_register(store, other.read_bytes(), operators, DOMAIN, other, 6000, new=True).added == 1
    third = tmp_path / "third"
    book.append(third, key, "alice", DOMAIN, article(2), 1)
    with pytest.raises(RegisterError, match="belongs to VG-00002 of another register") as caught:
        import_register(store, third.read_bytes(), operators, DOMAIN, third, 6000, new=True)
    assert caught.value.line == 2


def test_another_department_or_operator(path: Path, operators: dict[str, Operator], store: Any) -> None:
    with pytest.raises(RegisterError, match=r"this authority is for other\.example"):
        import_register(store, path.read_bytes(), operators, "other.example", path, 5000)
    with pytest.raises(RegisterError, match="not in the list of operators"):
        import_register(store, path.read_bytes(), {}, DOMAIN, path, 5000)
    assert store.execute("SELECT count(*) FROM boxes").fetchone()[0] == 0


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"v":1,"operators":[{"name":"a","public":"00"}]}', '{"v":1,"operators":[{"name":"a"}],"x":1}'],
)
def test_operators_files_that_are_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "operators.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"operators\.json"):
        read_operators(file)


def test_any_bytes_as_a_register(operators: dict[str, Operator]) -> None:
    for data in (os.urandom(3000), b"\n" * 50, b'{"a":' * 900 + b"\n", base64.b64encode(os.urandom(300)) + b"\n"):
        with pytest.raises(RegisterError):
            read_register(data, operators, "x")
