"""scripts/check_options.py: an option that was asked for and did not survive is named, with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import check_options
from scripts.buildroot import KERNEL_EXPECT, RELEASE_EXPECT, ImageError


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_what_is_in_force_is_not_lost(tmp_path: Path) -> None:
    config = write(tmp_path / ".config", "BR2_A=y", 'BR2_S="x y"', "# BR2_N is not set", "BR2_INT=5", 'BR2_EMPTY=""')
    wanted = write(
        tmp_path / "d", "# a comment", "", "BR2_A=y", 'BR2_S="x y"', "# BR2_N is not set", "BR2_INT=5", 'BR2_EMPTY=""'
    )
    assert check_options.check(config, [wanted]) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("BR2_GONE=y", None),
        ("BR2_N=y", "n"),
        ("CONFIG_DRIVER=y", "m"),
        ('BR2_S="x"', '"x y"'),
        ("# BR2_A is not set", "y"),
        ('BR2_GONE=""', None),
    ],
)
def test_each_kind_of_loss_is_named(tmp_path: Path, line: str, found: str | None) -> None:
    config = write(tmp_path / ".config", "BR2_A=y", 'BR2_S="x y"', "# BR2_N is not set", "CONFIG_DRIVER=m")
    wanted = write(tmp_path / "fragment", "# first line", line)
    (lost,) = check_options.check(config, [wanted])
    assert (lost.found, lost.asked.line) == (found, 2)
    assert str(lost).startswith(f"{wanted}:2: {lost.asked.symbol}=")


def test_the_later_line_counts(tmp_path: Path) -> None:
    config = write(tmp_path / ".config", "BR2_A=y")
    first, second = write(tmp_path / "1", "# BR2_A is not set"), write(tmp_path / "2", "BR2_A=y")
    assert check_options.check(config, [first, second]) == []
    assert [str(one.asked.file) for one in check_options.check(config, [second, first])] == [str(first)]


def test_off_and_absent_are_the_same(tmp_path: Path) -> None:
    config = write(tmp_path / ".config", "BR2_A=y")
    assert check_options.check(config, [write(tmp_path / "d", "# BR2_OTHER is not set")]) == []


def test_a_line_that_is_none_is_refused(tmp_path: Path) -> None:
    wanted = write(tmp_path / "d", "BR2_A=y", "BR2_B y")
    with pytest.raises(ImageError, match=r"d:2: not a line of Kconfig: 'BR2_B y'"):
        check_options.asked(wanted)


def output(tmp_path: Path, kernel: str, busybox: str = "# CONFIG_LOGIN is not set") -> Path:
    fragment = write(tmp_path / "kernel.fragment", "CONFIG_BRIDGE=y")
    tools = write(tmp_path / "busybox.fragment", "# CONFIG_LOGIN is not set")
    write(
        tmp_path / "o" / ".config",
        "BR2_A=y",
        f'BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES="{fragment}"',
        f'BR2_PACKAGE_BUSYBOX_CONFIG_FRAGMENT_FILES="{tools}"',
    )
    for name, text in (("linux-custom", kernel), ("busybox-1.37.0", busybox)):
        write(tmp_path / "o" / "build" / name / ".config", text)
        write(tmp_path / "o" / "build" / name / ".stamp_kconfig_fixup_done")
    write(tmp_path / "o" / "build" / "linux-firmware-2025" / "WHENCE")
    return tmp_path / "o"


def test_an_output_folder_is_checked_whole(tmp_path: Path) -> None:
    folder = output(tmp_path, "CONFIG_BRIDGE=y")
    found, count = check_options.check_output(folder, [write(tmp_path / "d", "BR2_A=y")], built=True)
    assert (found, count) == ([], 4)


@pytest.mark.parametrize(
    ("kernel", "busybox", "symbol"),
    [
        ("CONFIG_BRIDGE=m", "# CONFIG_LOGIN is not set", "CONFIG_BRIDGE"),
        ("CONFIG_BRIDGE=y\nCONFIG_MODULES=y", "# CONFIG_LOGIN is not set", "CONFIG_MODULES"),
        ("CONFIG_BRIDGE=y", "CONFIG_LOGIN=y", "CONFIG_LOGIN"),
    ],
)
def test_a_loss_in_the_kernel_or_busybox_is_found(tmp_path: Path, kernel: str, busybox: str, symbol: str) -> None:
    found, _ = check_options.check_output(
        output(tmp_path, kernel, busybox), [write(tmp_path / "d", "BR2_A=y")], built=True
    )
    assert [one.asked.symbol for one in found] == [symbol]


def test_a_build_without_a_kernel_is_no_build(tmp_path: Path) -> None:
    folder = write(tmp_path / "o" / ".config", "BR2_A=y").parent
    wanted = [write(tmp_path / "d", "BR2_A=y")]
    assert check_options.check_output(folder, wanted, built=False) == ([], 1)
    with pytest.raises(ImageError, match="no configured linux-"):
        check_options.check_output(folder, wanted, built=True)


def test_the_command_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, wanted = write(tmp_path / ".config", "BR2_A=y"), write(tmp_path / "d", "BR2_A=y", "BR2_B=y")
    assert check_options.main([str(config), str(wanted)]) == 1
    shown = capsys.readouterr()
    assert shown.out == "1 of 2 options in force\n"
    assert "BR2_B=y is not there" in shown.err
    assert check_options.main([str(tmp_path / "none"), str(wanted)]) == 2


def test_the_committed_lists_can_be_read() -> None:
    assert len(check_options.asked(RELEASE_EXPECT)) > 40
    assert [one.symbol for one in check_options.asked(KERNEL_EXPECT)] == ["CONFIG_MODULES"]
