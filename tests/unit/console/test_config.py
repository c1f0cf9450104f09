"""The configuration file: what it gives, and that a mistake names its key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from vigie_department import config
from vigie_department.errors import ConfigError, UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "department.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_smallest_file_gives_debian_places(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, 'domain = "vigie.example.fr"\n'))
    assert loaded.paths == config.debian()
    assert loaded.database == "sqlite:///var/lib/vigie-department/console.db"
    assert loaded.hosts == (
        "mqtt.vigie.example.fr",
        "enrol.vigie.example.fr",
        "maj.vigie.example.fr",
        "console.vigie.example.fr",
    )


def test_a_root_holds_everything(tmp_path: Path) -> None:
    path = config.file_of(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(config.render("vigie.lab", root=tmp_path), encoding="utf-8")
    loaded = config.load(root=tmp_path)
    assert loaded.path == path
    places = {name: getattr(loaded.paths, name) for name in loaded.paths.__slots__}
    outside = {name: place for name, place in places.items() if not place.is_relative_to(tmp_path)}
    assert not outside, outside
    assert len(set(places.values())) == len(places), "two things share one place"


def test_a_path_may_be_moved(tmp_path: Path) -> None:
    text = f'domain = "vigie.lab"\nroot = "{tmp_path}"\n[paths]\nrun = "/run/lab"\n'
    loaded = config.load(write(tmp_path, text))
    assert loaded.paths.run == Path("/run/lab")
    assert loaded.paths.data == config.under(tmp_path).data


def test_what_render_writes_is_read_back(tmp_path: Path) -> None:
    text = config.render(
        "vigie.lab",
        root=tmp_path,
        organisation='Département "de l\'Essai" \\',
        extra={
            "": {"listen": "127.0.0.1"},
            "ports": {"https": 8444},
            "intervals": {"batch": 0.02, "retry": 1},
            "mail": {"to": ["a@b.fr"]},
        },
    )
    loaded = config.load(write(tmp_path, text))
    assert loaded.organisation == 'Département "de l\'Essai" \\'
    assert loaded.listen == "127.0.0.1"
    assert loaded.ports.https == 8444
    assert loaded.intervals.batch == 0.02
    assert loaded.intervals.retry == 1.0
    assert loaded.mail.to == ("a@b.fr",)


def test_control_characters_are_not_written() -> None:
    with pytest.raises(UsageError):
        config.render("vigie.lab", organisation="a\nb = 1")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "domain"),
        ('domain = "Vigie Lab"', "domain"),
        ('domain = "lab"', "domain"),
        ("domain = 3", "domain"),
        ('domain = "vigie.lab"\ncolour = "red"', "colour"),
        ('domain = "vigie.lab"\npath = "/x"', "path"),
        ('domain = "vigie.lab"\nroot = "relative"', "root"),
        (f'domain = "vigie.lab"\nroot = "/{"x" * 120}"', "root"),
        ('domain = "vigie.lab"\ndatabase = "mysql://x"', "database"),
        ('domain = "vigie.lab"\nlanguage = "de"', "language"),
        ('domain = "vigie.lab"\ntime_zone = "Europe/Nowhere"', "time_zone"),
        ('domain = "vigie.lab"\ntime_zone = "/etc/passwd"', "time_zone"),
        ('domain = "vigie.lab"\npaths = 3', "paths"),
        ('domain = "vigie.lab"\n[paths]\nrun = "run"', "paths.run"),
        ('domain = "vigie.lab"\n[paths]\nnowhere = "/x"', "paths.nowhere"),
        (f'domain = "vigie.lab"\n[paths]\nsigner_socket = "/{"x" * 120}"', "paths.signer_socket"),
        ('domain = "vigie.lab"\n[ports]\nhttps = true', "ports.https"),
        ('domain = "vigie.lab"\n[ports]\nhttps = 70000', "ports.https"),
        ('domain = "vigie.lab"\n[intervals]\nbatch = 0', "intervals.batch"),
        ('domain = "vigie.lab"\n[documents]\ndesired_days = 401', "documents.desired_days"),
        ('domain = "vigie.lab"\n[documents]\nrenew_before_days = 180', "documents.renew_before_days"),
        ('domain = "vigie.lab"\n[documents]\ntemporary_hours = 5', "documents.temporary_hours"),
        ('domain = "vigie.lab"\n[mail]\nto = "a@b.fr"', "mail.to"),
        ('domain = "vigie.lab"\nmail = "x"', "mail"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(tmp_path: Path, text: str, key: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{path}: {key}: ")


def test_what_is_no_toml_or_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not TOML"):
        config.load(write(tmp_path, "domain = "))
    with pytest.raises(ConfigError, match="init"):
        config.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="larger"):
        config.load(write(tmp_path, "#" * (config.MAX_BYTES + 1)))


def test_the_order_in_which_a_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(config.ENVIRONMENT, raising=False)
    assert config.locate() == config.DEFAULT_FILE
    monkeypatch.setenv(config.ENVIRONMENT, "/e/department.toml")
    assert config.locate() == Path("/e/department.toml")
    assert config.locate(root=tmp_path) == tmp_path / "etc" / "department.toml"
    assert config.locate(Path("/c.toml"), tmp_path) == Path("/c.toml")


def test_rendered_text_has_no_key_twice() -> None:
    table = tomllib.loads(config.render("vigie.lab", root=Path("/srv/x"), extra={"contact": {"name": "DNum"}}))
    assert table == {"domain": "vigie.lab", "organisation": "", "root": "/srv/x", "contact": {"name": "DNum"}}
