"""The tree that Buildroot reads, as far as it can be judged without a Buildroot (`make check-buildroot` has one)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from scripts import buildroot, check_buildroot, check_options
from scripts.buildroot import BOARDS, ROOT

RECIPES = sorted(path.parent.name for path in ROOT.glob("package/*/*.mk"))
# In two parts: no file of the project names them, this one neither.
FORBIDDEN_HOSTS = ("python" + "hosted", "pypi" + ".org")


def values(board: str) -> dict[str, str]:
    return check_options.configuration(BOARDS[board].path.read_text())


def test_the_external_tree_is_named() -> None:
    description = (ROOT / "external.desc").read_text()
    assert re.search(r"^name: VIGIE$", description, re.MULTILINE)


def test_every_recipe_is_offered_and_complete() -> None:
    menu = (ROOT / "Config.in").read_text()
    assert set(RECIPES) >= set(check_buildroot.OURS)
    for name in RECIPES:
        folder = ROOT / "package" / name
        assert f"package/{name}/Config.in" in menu, name
        recipe = (folder / f"{name}.mk").read_text()
        prefix = name.upper().replace("-", "_")
        for field in ("VERSION", "SITE", "LICENSE", "LICENSE_FILES"):
            assert re.search(rf"^{prefix}_{field} = \S", recipe, re.MULTILINE), f"{name}: {field}"
        assert (folder / "Config.in").read_text().startswith(f"config BR2_PACKAGE_{prefix}\n"), name


def test_what_is_downloaded_has_its_digest_and_comes_from_the_forge() -> None:
    for name in RECIPES:
        folder = ROOT / "package" / name
        recipe = (folder / f"{name}.mk").read_text()
        assert not any(host in recipe for host in FORBIDDEN_HOSTS), name
        if "_SITE_METHOD = local" in recipe:
            continue
        prefix = name.upper().replace("-", "_")
        version = re.search(rf"^{prefix}_VERSION = (\S+)$", recipe, re.MULTILINE)
        source = re.search(rf"^{prefix}_SOURCE = (\S+)$", recipe, re.MULTILINE)
        assert version and source, name
        assert re.search(rf"^{prefix}_SITE = https://github\.com/", recipe, re.MULTILINE), name
        archive = re.sub(r"\$\(\w+_VERSION\)", version[1], source[1])
        hashes = (folder / f"{name}.hash").read_text()
        assert re.search(rf"^sha256  [0-9a-f]{{64}}  {re.escape(archive)}$", hashes, re.MULTILINE), f"{name}: {archive}"
        for file in re.search(rf"^{prefix}_LICENSE_FILES = (.+)$", recipe, re.MULTILINE)[1].split():  # type: ignore[index]
            assert re.search(rf"^sha256  [0-9a-f]{{64}}  {re.escape(file)}$", hashes, re.MULTILINE), f"{name}: {file}"


@pytest.mark.parametrize("distribution", ["tuf", "securesystemslib"])
def test_the_recipes_and_the_lock_name_the_same_release(distribution: str) -> None:
    """What the tests of this repository run is what the box gets, to the byte."""
    recipe = (ROOT / "package" / f"python-{distribution}" / f"python-{distribution}.mk").read_text()
    version = re.search(r"_VERSION = (\S+)", recipe)
    assert version
    lock = (ROOT / "requirements.txt").read_text()
    pinned = re.search(rf"^{distribution}==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE)
    assert pinned and pinned[1] == version[1]
    hashes = (ROOT / "package" / f"python-{distribution}" / f"python-{distribution}.hash").read_text()
    archive = re.search(rf"^sha256  ([0-9a-f]{{64}})  {distribution}-{re.escape(version[1])}\.tar\.gz$", hashes, re.M)
    assert archive and f"sha256:{archive[1]}" in pinned[2]


def test_our_packages_have_the_version_of_the_distribution() -> None:
    with (ROOT / "firmware" / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    for name in ("vigie", "vigie-bpf"):
        recipe = (ROOT / "package" / name / f"{name}.mk").read_text()
        assert re.search(rf"_VERSION = {re.escape(version)}$", recipe, re.MULTILINE), name


@pytest.mark.parametrize("board", BOARDS)
def test_every_file_that_a_configuration_names_is_there(board: str) -> None:
    text = BOARDS[board].path.read_text()
    named = re.findall(r"\$\(BR2_EXTERNAL_VIGIE_PATH\)/([^\s\"]+)", text)
    assert len(named) > 8
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("board", BOARDS)
def test_a_configuration_is_for_everybody(board: str) -> None:
    """Nothing of one machine or one department, and nothing that only a developer's image may have."""
    config = values(board)
    private = ("BR2_DL_DIR", "BR2_CCACHE", "BR2_HOST_DIR", "BR2_VIGIE_TRUST", "BR2_VIGIE_BASE", "BR2_BACKUP_SITE")
    assert [name for name in config if name.startswith(private)] == []
    developer = {one.symbol for one in check_options.asked(buildroot.DEV_FRAGMENT)}
    assert [name for name in developer if config.get(name, "n") != "n"] == []
    assert config["BR2_ROOTFS_POST_SCRIPT_ARGS"] == f'"{board}"'
    assert config.get("BR2_VIGIE_BOARD", '"cm4"') == f'"{board}"'


def test_the_boards_differ_only_in_the_board() -> None:
    own = (
        "BR2_LINUX_KERNEL",
        "BR2_PACKAGE_RPI",
        "BR2_PACKAGE_LINUX_FIRMWARE",
        "BR2_TARGET_UBOOT",
        "BR2_GLOBAL_PATCH_DIR",
    )
    own += ("BR2_ROOTFS_OVERLAY", "BR2_ROOTFS_POST_SCRIPT_ARGS", "BR2_VIGIE_BOARD", "BR2_PACKAGE_LIBUBOOTENV")
    first, second = values("cm4"), values("qemu")
    different = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    assert sorted(name for name in different if not name.startswith(own)) == []


def test_no_option_is_asked_for_twice_with_two_answers() -> None:
    for board in BOARDS:
        config = values(board)
        asked = [
            line
            for file in check_options.files_named(config, "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES")
            for line in check_options.asked(file)
        ]
        answers: dict[str, set[str]] = {}
        for line in asked:
            answers.setdefault(line.symbol, set()).add(line.value)
        assert {symbol: found for symbol, found in answers.items() if len(found) > 1} == {}, board


@pytest.mark.parametrize("board", BOARDS)
def test_the_kernel_can_do_its_job_before_anything_is_mounted(board: str) -> None:
    config = values(board)
    asked = {
        line.symbol: line.value
        for file in check_options.files_named(config, "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES")
        for line in check_options.asked(file)
    }
    needed = "BPF_JIT_ALWAYS_ON NET_CLS_BPF NET_SCH_INGRESS BRIDGE VETH DM_INIT DM_VERITY EROFS_FS EXT4_FS VFAT_FS"
    needed += (
        " SQUASHFS BLK_DEV_LOOP BLK_DEV_NBD CRYPTO_SHA256 WATCHDOG PSTORE_RAM LEDS_GPIO GPIO_CDEV KEYBOARD_GPIO R8169"
    )
    needed += {
        "cm4": " BCM2835_WDT BCMGENET PCIE_BRCMSTB LAN743X USB_LAN78XX USB_RTL8152 MMC_SDHCI_IPROC",
        "qemu": " I6300ESB_WDT VIRTIO_BLK VIRTIO_NET VIRTIO_PCI VIRTIO_INPUT PCI_HOST_GENERIC",
    }[board]
    assert {name: asked.get(f"CONFIG_{name}") for name in needed.split()} == dict.fromkeys(needed.split(), "y")
    assert "m" not in asked.values()
    assert "CONFIG_MODULES" not in asked, "asking for it in a fragment turns every module of the board into code"


def test_modules_are_switched_off_and_the_fragments_have_the_last_word(tmp_path: Path) -> None:
    """external.mk's fix-up, run by make with Buildroot's own meaning of the words that it uses."""
    config, fragment = tmp_path / ".config", tmp_path / "fragment"
    config.write_text("CONFIG_MODULES=y\nCONFIG_WIFI=m\nCONFIG_BRIDGE=m\nCONFIG_EXT4_FS=y\nCONFIG_A1_B=m\n")
    fragment.write_text("# comment\nCONFIG_BRIDGE=y\n")
    (tmp_path / "Makefile").write_text(
        "SED := sed -i -e\nSHARP_SIGN := \\#\nPKG := LINUX\n"
        f"KCONFIG_DOT_CONFIG := {config}\nLINUX_KCONFIG_FRAGMENT_FILES := {fragment}\n"
        f"BR2_EXTERNAL_VIGIE_PATH := {tmp_path}\n"
        "KCONFIG_DISABLE_OPT = sed -i '/^\\(\\# \\)\\?$(1)\\>/d' $(KCONFIG_DOT_CONFIG) && "
        "echo '$(SHARP_SIGN) $(1) is not set' >> $(KCONFIG_DOT_CONFIG)\n"
        f"include {ROOT}/external.mk\n"
        "all:\n\t$(VIGIE_LINUX_CONFIG_FIXUPS)\n"
    )
    done = subprocess.run(["make", "-s", "-C", str(tmp_path), "all"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert check_options.configuration(config.read_text()) == {
        "CONFIG_WIFI": "n",
        "CONFIG_A1_B": "n",
        "CONFIG_BRIDGE": "y",
        "CONFIG_EXT4_FS": "y",
        "CONFIG_MODULES": "n",
    }


def test_kernel_tarballs_have_a_digest() -> None:
    for board in BOARDS:
        config = values(board)
        (folder,) = check_options.files_named(config, "BR2_GLOBAL_PATCH_DIR")
        text = (folder / "linux" / "linux.hash").read_text()
        location = config.get("BR2_LINUX_KERNEL_CUSTOM_TARBALL_LOCATION", "").strip('"').rsplit("/", 1)[-1]
        version = config.get("BR2_LINUX_KERNEL_CUSTOM_VERSION_VALUE", "").strip('"')
        name = location or f"linux-{version}.tar.xz"
        assert re.search(rf"^sha256  [0-9a-f]{{64}}  {re.escape(name)}$", text, re.MULTILINE), name


def test_the_wheel_builds_without_network_or_git(tmp_path: Path) -> None:
    """What Buildroot does: the folder alone, no isolation, the back end that is there."""
    source = tmp_path / "firmware"
    shutil.copytree(ROOT / "firmware", source, ignore=shutil.ignore_patterns("build", "dist", "__pycache__", "*.mo"))
    code = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    command = [str(ROOT / ".venv" / "bin" / "python"), "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.split()[-1]).is_file()
