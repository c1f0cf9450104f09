"""The box's own configuration: the domain is the trust folder's, the rest has defaults, each mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigie.errors import ConfigError
from vigie.host.boxconfig import BoxConfig, load, parse


def test_a_domain_is_all_that_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text("domain: vigie.lab\n")
    config = load(path)
    assert config == BoxConfig("vigie.lab")
    assert (config.enrol_host, config.mqtt_host, config.update_host) == (
        "enrol.vigie.lab",
        "mqtt.vigie.lab",
        "maj.vigie.lab",
    )
    assert config.ports.mqtt == (8883, 443) and config.set_clock
    assert config.paths.enrol == Path("/data/vigie/enrol") and config.paths.roots.name == "roots.pem"
    assert config.address_of("enrol.vigie.lab") == "enrol.vigie.lab"


def test_every_section_is_read() -> None:
    config = parse(
        """
domain: vigie.lab
model: vigie-qemu
bridge: br1
set_clock: false
proxy: http://proxy.lan:3128
paths: {trust: /t, identity: /i, state: /s, filter_socket: /f.sock, run: /r}
ports: {https: 8443, mqtt: [18883]}
addresses: {enrol.vigie.lab: 127.0.0.1, maj.vigie.lab: "::1"}
intervals:
  enrol: {first_s: 0.1, most_s: 2}
  link: {spread_s: 0, drain_per_s: 100}
  update: {poll_s: 5}
page: {address: "127.0.0.1", port: 8080}
""",
        "box.yaml",
    )
    assert config.model == "vigie-qemu" and config.bridge == "br1" and not config.set_clock
    assert config.proxy == "http://proxy.lan:3128" and config.paths.enrol == Path("/s/enrol")
    assert config.ports.https == 8443 and config.ports.mqtt == (18883,)
    assert config.address_of("enrol.vigie.lab") == "127.0.0.1" and config.address_of("maj.vigie.lab") == "::1"
    assert config.intervals.enrol.first_s == 0.1 and config.intervals.link.drain_per_s == 100
    assert config.intervals.update.poll_s == 5 and config.page.port == 8080


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("domain: Vigie.Lab\n", 1, "lower case"),
        ("domain: a..b\n", 1, "no domain name"),
        ("domain: 42\n", 1, "a domain name"),
        ("domain: a.b\nsetclock: true\n", 2, "unknown key `setclock`"),
        ("domain: a.b\nproxy: https://x:1\n", 2, "is not a proxy"),
        ("domain: a.b\nproxy: http://x\n", 2, "is not a proxy"),
        ("domain: a.b\nproxy: http://x:99999\n", 2, "is not a proxy"),
        ("domain: a.b\nproxy: http://x:1/path\n", 2, "is not a proxy"),
        ("domain: a.b\nports:\n  mqtt: []\n", 3, "is empty"),
        ("domain: a.b\nports:\n  mqtt: [0]\n", 3, "not a port"),
        ("domain: a.b\nports:\n  mqtt: [1, 2, 3, 4, 5]\n", 3, "at most 4"),
        ("domain: a.b\nports:\n  https: 70000\n", 3, "between 1 and 65535"),
        ("domain: a.b\naddresses:\n  enrol.a.b: nowhere\n", 3, "is not an address"),
        ("domain: a.b\naddresses:\n  Enrol: 10.0.0.1\n", 3, "is not a host name"),
        ("domain: a.b\npaths:\n  state: data\n", 3, "absolute path"),
        ("domain: a.b\nintervals:\n  enrol:\n    first_s: 0\n", 4, "between"),
        ("domain: a.b\nmodel: 'a b'\n", 2, "is not a model"),
        ("domain: a.b\nbridge: averyveryverylongname\n", 2, "network interface"),
        ("domain: a.b\npage:\n  address: here\n", 3, "is not an address"),
    ],
)
def test_mistakes_name_file_and_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "box.yaml")
    assert str(caught.value).startswith(f"box.yaml:{line}: "), str(caught.value)
    assert words in str(caught.value)


def _image(tmp_path: Path, domain: str | None, more: str = "") -> Path:
    (tmp_path / "trust").mkdir()
    if domain is not None:
        (tmp_path / "trust" / "domain").write_text(domain)
    path = tmp_path / "box.yaml"
    path.write_text(f"paths: {{trust: {tmp_path}/trust}}\n{more}")
    return path


def test_the_domain_is_the_trust_folders(tmp_path: Path) -> None:
    config = load(_image(tmp_path, "vigie.lab\n"))
    assert (config.domain, config.enrol_host) == ("vigie.lab", "enrol.vigie.lab")


def test_a_written_domain_counts_more(tmp_path: Path) -> None:
    assert load(_image(tmp_path, "vigie.lab\n", "domain: other.lab\n")).domain == "other.lab"


def test_an_image_without_a_department_serves_its_page_and_names_no_host(tmp_path: Path) -> None:
    config = load(_image(tmp_path, None))
    assert config.page.port == 80
    with pytest.raises(ConfigError, match="without a trust folder"):
        _ = config.mqtt_host


@pytest.mark.parametrize("text", ["", "Vigie.Lab", "a..b", "x" * 201, "a b", "\0"])
def test_a_spoilt_domain_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"trust/domain:1: .* is no domain name"):
        load(_image(tmp_path, text))
