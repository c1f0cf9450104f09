"""Feed sets, guesses from file names, and the command line's list of feeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.base_feeds.support import SAMPLES
from vigie.contract.codes import Action, Category, Direction
from vigie.errors import FeedError
from vigie.filter.base.feeds import Options, feed_set, feeds_of, read_feed
from vigie.filter.base.known import guess, stem

GOOD = {
    "name": "x",
    "file": "x.txt",
    "category": "c2",
    "direction": "both",
    "action": "block",
    "source": "s",
    "licence": "l",
    "redistributable": "true",
}


def write(path: Path, **changes: str | None) -> Path:
    keys = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    lines = [f"    {key}: {value}" for key, value in keys.items()]
    path.write_text("version: 1\nfeeds:\n  -\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_feed_set(tmp_path: Path) -> None:
    path = write(
        tmp_path / "set.yaml", format="csv", column="3", score_column="score", min_score="2", max_bad_percent="10"
    )
    ((feed, file, options),) = feed_set(path)
    assert feed.category is Category.C2
    assert feed.direction is Direction.BOTH
    assert feed.action is Action.BLOCK
    assert feed.redistributable
    assert feed.licence == "l"
    assert file == tmp_path / "x.txt"
    assert options == Options(format="csv", column=3, score_column="score", min_score=2, max_bad=0.1)


@pytest.mark.parametrize(
    ("changes", "line", "word"),
    [
        ({"category": "evil"}, 6, "unknown category 'evil'"),
        ({"category": "none"}, 6, "category other than none"),
        ({"direction": "sideways"}, 7, "unknown direction"),
        ({"action": "none"}, 8, "block, observe or allow"),
        ({"redistributable": "yes"}, 11, "true or false"),
        ({"licence": None}, 4, "'licence' is missing"),
        ({"typo": "1"}, 12, "unknown key 'typo'"),
        ({"format": "csvv"}, 12, "unknown format"),
        ({"format": "hosts", "min_score": "3"}, 13, "score_column"),
        ({"column": "0"}, 12, "not in 1..1000"),
        ({"max_bad_percent": "500"}, 12, "not in 0..100"),
        ({"name": "7"}, 4, "a text is expected"),
        ({"name": "[a]"}, 4, "a text is expected"),
    ],
)
def test_feed_set_errors_name_the_line(tmp_path: Path, changes: dict[str, str | None], line: int, word: str) -> None:
    path = write(tmp_path / "set.yaml", **changes)
    with pytest.raises(FeedError) as caught:
        feed_set(path)
    assert caught.value.line == line, caught.value
    assert word in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("a: [", "not YAML"),
        ("version: 2\nfeeds: []\n", "2 is not in 1..1"),
        ("version: 1\nfeeds: {}\n", "a list is expected"),
        ("- 1\n", "a mapping"),
        ("version: 1\nversion: 1\nfeeds: []\n", "given twice"),
        ("version: &a 1\nfeeds: []\n", "anchors"),
        ("version: !!python/object:os.system 1\nfeeds: []\n", "tag"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_feed_set_that_is_none(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "set.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FeedError, match=word):
        feed_set(path)


def test_feed_set_refuses_two_feeds_of_one_name(tmp_path: Path) -> None:
    path = write(tmp_path / "set.yaml")
    text = path.read_text(encoding="utf-8")
    path.write_text(text + text.split("feeds:\n")[1], encoding="utf-8")
    with pytest.raises(FeedError, match="taken by another feed"):
        feed_set(path)


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "list.txt").write_text("192.0.2.1\n", encoding="utf-8")
    (tmp_path / "a" / "README.md").write_text("no feed\n", encoding="utf-8")
    (tmp_path / "a" / ".hidden").write_text("no feed\n", encoding="utf-8")
    (tmp_path / "list.txt").write_text("192.0.2.2\n", encoding="utf-8")
    found = feeds_of([tmp_path / "a", tmp_path / "list.txt"])
    assert [(feed.name, path) for feed, path, _ in found] == [
        ("list", tmp_path / "a" / "list.txt"),
        ("list-2", tmp_path / "list.txt"),
    ]
    with pytest.raises(FeedError, match="no such file"):
        feeds_of([tmp_path / "absent"])


def test_feed_set_among_the_arguments() -> None:
    names = [feed.name for feed, _, _ in feeds_of([SAMPLES / "feeds.yaml", SAMPLES / "plain.txt"])]
    assert names[0] == "threatfox"
    assert names[-1] == "plain-2"


@pytest.mark.parametrize(
    ("path", "category", "direction", "action"),
    [
        ("feeds/c2-tracker/Sliver_C2_IPs.txt", Category.C2, Direction.BOTH, Action.BLOCK),
        ("feeds/c2-tracker/Mozi_Botnet_IPs.txt", Category.BOTNET, Direction.BOTH, Action.BLOCK),
        ("feeds/firehol/tor_exits.ipset", Category.ANONYMISER, Direction.IN, Action.BLOCK),
        ("feeds/firehol/firehol_level1.netset", Category.HIJACKED, Direction.BOTH, Action.BLOCK),
        ("feeds/firehol/dshield.netset", Category.SCANNER, Direction.IN, Action.BLOCK),
        ("feeds/zeek-intel/doh-domains.intel", Category.DOH, Direction.OUT, Action.OBSERVE),
        ("feeds/shadowwhisperer/Tunnels.csv.gz", Category.ANONYMISER, Direction.OUT, Action.OBSERVE),
        ("feeds/stalkerware_network.csv", Category.STALKERWARE, Direction.OUT, Action.BLOCK),
        ("somewhere/my-list.txt", Category.SUSPICIOUS, Direction.BOTH, Action.BLOCK),
    ],
)
def test_guess(path: str, category: Category, direction: Direction, action: Action) -> None:
    ((feed, _),) = guess(Path(path))
    assert (feed.category, feed.direction, feed.action) == (category, direction, action)


def test_guess_never_lets_unknown_feeds_be_passed_on() -> None:
    ((feed, _),) = guess(Path("unknown.txt"))
    assert not feed.redistributable
    ((feed, _),) = guess(Path("inversion_google_hostnames_light.txt"))
    assert not feed.redistributable


def test_guess_splits_maltrail_by_class() -> None:
    found = {feed.name: (feed, options) for feed, options in guess(Path("maltrail_static.tsv.gz"))}
    assert found["maltrail_static-suspicious"][0].action is Action.OBSERVE
    assert found["maltrail_static-mass_scanner"][0].direction is Direction.IN
    assert found["maltrail_static-malware"][1].label == "malware/"


@pytest.mark.parametrize(
    ("name", "expected"), [("a.txt.gz", "a"), ("b.tar.xz", "b"), ("c.netset", "c"), ("d", "d"), (".txt", ".txt")]
)
def test_stem(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


def test_real_feeds(data_dir: Path | None) -> None:
    """The real feeds that show a hazard; the samples on a machine without them."""
    folder = data_dir / "feeds" if data_dir else SAMPLES
    wanted = [
        "firehol/firehol_level1.netset",
        "romainmarcoux/isc.sans.edu-aa.txt.gz",
        "c2-tracker/njRAT_Trojan_IPs.txt",
    ]
    paths = [folder / name for name in wanted] if data_dir else [SAMPLES / "drop.txt"]
    for feed, path, options in feeds_of(paths):
        entries, report = read_feed(feed, path, options)
        assert len(entries) == report.tally.good
        if path.name.startswith("isc.sans"):
            assert (report.tally.bad, report.tally.good) == (499, 130_573)
            assert "an octet is empty: '1..218.28'" in report.describe(report.tally.bad_notes[0])
