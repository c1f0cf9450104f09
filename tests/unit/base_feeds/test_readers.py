"""Every format, on its sample: content, format told from the content, and what is skipped with which reason."""

from __future__ import annotations

import gzip
import lzma

import pytest

from tests.unit.base_feeds.support import SAMPLES, feed, read, v4, v6
from vigie.filter.base.feeds import FeedRefused, FeedReport, feed_set, read_feed
from vigie.filter.base.readers import FORMATS
from vigie.filter.base.readers.detect import Unknown, detect

FORMAT_OF = {
    "plain.txt": "plain",
    "threatfox_ips.txt": "plain",
    "drop.txt": "plain",
    "broken.txt": "plain",
    "hosts.txt": "hosts",
    "adblock.txt": "adblock",
    "maltrail-sample.txt": "maltrail",
    "maltrail_sample.tsv": "normalised",
    "Threats.csv": "csv",
    "Tunnels.csv": "csv",
    "ipsum.txt": "scored",
    "dshield.txt": "dshield",
    "nso-domains.intel": "zeek",
    "misp-event.json": "misp",
    "warninglist.json": "warninglist",
    "emerging.rules": "suricata",
}


@pytest.mark.parametrize(("name", "expected"), FORMAT_OF.items())
def test_format_is_told_from_the_content(name: str, expected: str) -> None:
    assert detect((SAMPLES / name).read_bytes()) == expected


def test_every_format_has_a_sample() -> None:
    assert set(FORMAT_OF.values()) == set(FORMATS)


@pytest.mark.parametrize(
    "data", [b'{"asn":1}\n{"asn":2}\n', b'{"unknown": 1}', b"[1, 2]", b"\x00\x01\x02", "éa\n".encode("utf-16")]
)
def test_no_known_shape_is_refused(data: bytes) -> None:
    with pytest.raises(Unknown):
        detect(data)
    with pytest.raises(FeedRefused):
        read(data)


def test_plain() -> None:
    entries, report = read((SAMPLES / "plain.txt").read_bytes())
    assert sorted(v4(entries)) == sorted(
        [
            "192.0.2.1",
            "192.0.2.128-192.0.2.255",
            "198.51.100.10-198.51.100.20",
            "203.0.113.7:8443",
            "185.220.101.1",
            "45.155.205.0-45.155.205.255",
        ]
    )
    assert v6(entries) == ["2001:db8::1", "2001:db8:1::-2001:db8:1:ffff:ffff:ffff:ffff:ffff", "2001:db8::2:443"]
    assert entries.names == ["malware.example", "sub.malware.example", "xn--bcher-kva.example"]
    assert report.tally.bad == 0
    assert entries.name_line.tolist() == [9, 10, 11]
    assert entries.v4_line.tolist() == sorted(entries.v4_line.tolist())


def test_line_numbers_are_those_of_the_file() -> None:
    entries, _ = read("# one\n\n192.0.2.3\r\n192.0.2.4 # four\nsix.example\n2001:db8::6\n192.0.2.7:7")
    assert dict(zip(v4(entries), entries.v4_line.tolist(), strict=True)) == {
        "192.0.2.3": 3,
        "192.0.2.4": 4,
        "192.0.2.7:7": 7,
    }
    assert entries.name_line.tolist() == [5]
    assert entries.v6_line.tolist() == [6]


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n# comments\n", "\ufeff"])
def test_empty_feed(text: str) -> None:
    entries, report = read(text)
    assert len(entries) == 0
    assert report.tally.bad == 0


def test_byte_order_mark_and_other_line_separators() -> None:
    entries, report = read("\ufeff192.0.2.1\n192.0.2.2\u2028192.0.2.3\n" + "192.0.2.9\n" * 40, max_bad=1.0)
    assert v4(entries)[:1] == ["192.0.2.1"]
    assert report.tally.bad == 1
    assert report.tally.bad_notes[0].line == 2


def test_hosts() -> None:
    entries, report = read((SAMPLES / "hosts.txt").read_bytes())
    assert entries.names == ["bad.example", "worse.example", "another.example", "tracker.example.net"]
    assert entries.name_line.tolist() == [5, 6, 6, 7]
    assert report.tally.skipped["name sent to a real address: a redirection"] == 1


def test_adblock() -> None:
    entries, report = read((SAMPLES / "adblock.txt").read_bytes())
    assert entries.names == ["phish.example", "scam.example"]
    assert v4(entries) == ["192.0.2.55"]
    assert report.tally.bad == 0
    assert set(report.tally.skipped) == {
        "exception",
        "cosmetic rule",
        "rule about a part of a URL",
        "rule with modifiers: holds for certain requests only",
    }


def test_maltrail() -> None:
    text = (
        "# Copyright (c) Maltrail developers\n\nbad.example # note\n192.0.2.1:4444\n192.0.2.2\n/gate.php\n"
        "host.example/x.php\n"
        "http://192.0.2.9\n\\b(abc|def)[0-9]+\\.example\nhttp://named.example\n"
    )
    entries, report = read(text)
    assert report.format == "maltrail"
    assert entries.names == ["bad.example", "named.example"]
    assert sorted(v4(entries)) == ["192.0.2.1:4444", "192.0.2.2", "192.0.2.9:80"]
    assert report.tally.bad == 0
    assert sum(report.tally.skipped.values()) == 3


def test_normalised_keeps_the_families_asked_for() -> None:
    data = (SAMPLES / "maltrail_sample.tsv").read_bytes()
    every, _ = read(data)
    malware, _ = read(data, label="malware/")
    suspicious, _ = read(data, label="suspicious/")
    assert len(malware) == 8
    assert len(suspicious) == 5
    assert len(every) == data.count(b"\n") - 1
    assert len(every.v6_first) == 4


def test_csv_column_by_title_and_by_number() -> None:
    data = (SAMPLES / "Threats.csv").read_bytes()
    guessed, _ = read(data)
    titled, _ = read(data, column="ip")
    numbered, _ = read(data, column=1)
    assert v4(guessed) == v4(titled) == v4(numbered)
    assert len(guessed) == 21


def test_csv_without_titles_and_with_quotes() -> None:
    entries, report = read('"x, y";192.0.2.1\n"z";"evil.example"\nw;192.0.2.3\n', format="csv")
    assert entries.names == ["evil.example"]
    assert v4(entries) == ["192.0.2.1", "192.0.2.3"]
    assert report.tally.blank == 0


def test_csv_score() -> None:
    entries, report = read(
        "ip,score\n192.0.2.1,10\n192.0.2.2,3\n192.0.2.3,?\n", score_column="score", min_score=5, max_bad=1.0
    )
    assert v4(entries) == ["192.0.2.1"]
    assert report.tally.skipped["score below 5"] == 1
    assert report.tally.bad == 1


def test_csv_odd_lines() -> None:
    entries, report = read('ip\twhy\n192.0.2.1\tx\n\tempty\n192.0.2.3\t"y\n192.0.2.4\t"a\rb\n', max_bad=1.0)
    assert v4(entries)[:2] == ["192.0.2.1", "192.0.2.3"]
    assert report.tally.bad_notes[0].reason == "empty or missing column"


@pytest.mark.parametrize("options", [{"column": "nowhere"}, {"column": 9}, {"score_column": "nowhere"}])
def test_csv_missing_column_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(FeedRefused, match="column"):
        read("ip,why\n192.0.2.1,x\n192.0.2.2,y\n", **options)


def test_csv_without_any_indicator_column_is_refused() -> None:
    with pytest.raises(FeedRefused, match="no column that holds"):
        read("a,b\nc,d\ne,f\n", format="csv")


def test_scored() -> None:
    data = (SAMPLES / "ipsum.txt").read_bytes()
    entries, _ = read(data)
    strong, report = read(data, min_score=3)
    assert len(entries) == 52
    assert len(strong) == 41
    assert report.tally.skipped["score below 3"] == 11


def test_dshield() -> None:
    entries, report = read((SAMPLES / "dshield.txt").read_bytes())
    assert v4(entries) == ["192.0.2.0-192.0.2.255", "198.51.100.0-198.51.100.255"]
    assert report.tally.warned == 0
    _, report = read("Start\tEnd\tNetmask\n192.0.2.0\t192.0.2.255\t23\n", format="dshield")
    assert report.tally.warned == 1


def test_spamhaus() -> None:
    entries, _ = read((SAMPLES / "drop.txt").read_bytes())
    assert v4(entries)[2] == "224.0.0.0-255.255.255.255"


def test_zeek() -> None:
    entries, report = read((SAMPLES / "nso-domains.intel").read_bytes())
    assert len(entries.names) == 21
    assert report.tally.skipped == {"indicator of type EMAIL": 2}
    fields = "#fields\tindicator\tindicator_type\n"
    entries, report = read(
        fields + "192.0.2.0/24\tIntel::SUBNET\nbare.example/\tIntel::URL\nfull.example/x\tIntel::URL\n"
        "http://schemed.example/\tIntel::URL\n"
    )
    assert v4(entries) == ["192.0.2.0-192.0.2.255"]
    assert entries.names == ["bare.example", "schemed.example"]
    assert sum(report.tally.skipped.values()) == 1
    _, report = read(fields + "192.0.2.1\n192.0.2.1\tbogus\n", max_bad=1.0)
    assert report.tally.bad == 2


def test_misp_event() -> None:
    entries, report = read((SAMPLES / "misp-event.json").read_bytes())
    assert sorted(v4(entries)) == ["192.0.2.77", "198.51.100.77:8080", "203.0.113.77"]
    assert entries.names == ["event.example", "pair.example", "object.example"]
    assert entries.name_line.tolist() == [9, 10, 18]
    assert report.tally.skipped["attribute not meant for detection (to_ids is false)"] == 1
    assert report.tally.bad == 0


def test_warninglist() -> None:
    entries, _ = read((SAMPLES / "warninglist.json").read_bytes())
    assert v4(entries) == ["192.0.2.0-192.0.2.127"]
    assert v6(entries) == ["2001:db8:ffff::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"]
    names, _ = read('{"type": "hostname", "list": [".example.com", "example.net"]}')
    assert names.names == ["example.com", "example.net"]


def test_suricata() -> None:
    entries, report = read((SAMPLES / "emerging.rules").read_bytes())
    assert sorted(v4(entries)) == ["192.0.2.10", "192.0.2.11", "198.51.100.0-198.51.100.255", "203.0.113.20:4444"]
    assert entries.names == ["c2.example.net", "evil.example"]
    assert sum(report.tally.skipped.values()) == 2


def test_bad_lines_refuse_the_feed_above_five_percent() -> None:
    with pytest.raises(FeedRefused) as caught:
        read_feed(feed("broken"), SAMPLES / "broken.txt")
    text = str(caught.value)
    assert "broken.txt:2: not an address: an octet is empty: '1..218.28'" in text
    assert "16.7 %" in text
    assert isinstance(caught.value.report, FeedReport)


def test_five_percent_is_still_accepted() -> None:
    lines = [f"192.0.2.{i}" for i in range(95)] + ["1..2.3"] * 5
    _, report = read("\n".join(lines))
    assert report.tally.bad == 5
    with pytest.raises(FeedRefused):
        read("\n".join([*lines, "1..2.3"]))


def test_refusal_quotes_ten_lines_only_and_no_control_characters() -> None:
    with pytest.raises(FeedRefused) as caught:
        read("\n".join(["\x1b]0,owned\x07" + "x" * 500] * 50), format="plain")
    text = str(caught.value)
    assert text.count("sample:") == 10 + 1
    assert "\x1b" not in text
    assert max(map(len, text.split("\n"))) < 400


def test_host_bits_are_a_warning() -> None:
    entries, report = read("192.0.2.9/24\n")
    assert v4(entries) == ["192.0.2.0-192.0.2.255"]
    assert report.tally.warned == 1
    assert "192.0.2.0/24" in report.tally.warnings[0].reason


def test_imposed_format_wins() -> None:
    entries, report = read("192.0.2.1\t5\n", format="csv")
    assert report.format == "csv"
    assert len(entries) == 1
    with pytest.raises(FeedRefused, match="unknown format"):
        read("x", format="nonsense")
    with pytest.raises(FeedRefused, match="not of format 'misp'"):
        read("not json", format="misp")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_feeds(tmp_path, pack) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "feed.bin"
    path.write_bytes(pack(b"192.0.2.1\n"))
    entries, _ = read_feed(feed(), path)
    assert v4(entries) == ["192.0.2.1"]


def test_feed_set_of_the_samples_reads_whole() -> None:
    total = 0
    for one, path, options in feed_set(SAMPLES / "feeds.yaml"):
        entries, report = read_feed(one, path, options)
        assert report.tally.bad == 0, one.name
        assert len(entries) > 0, one.name
        assert report.to_json()["good"] == report.tally.good
        total += len(entries)
    assert total > 200
