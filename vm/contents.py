"""What the virtual board is made of: Debian packages, kernel modules, wheels. Tables only."""

from __future__ import annotations

from typing import Final

SUITE: Final = "trixie"
PYTHON: Final = "3.13"

PACKAGES: Final = (
    # the system
    "linux-image-arm64", "systemd", "udev", "dbus", "kmod", "mount", "util-linux", "fdisk", "e2fsprogs", "dosfstools",
    "dash", "busybox-static", "coreutils", "grep", "sed", "iproute2", "base-passwd", "netbase", "ca-certificates",
    "libseccomp2", "rauc", "rauc-service", "libubootenv-tool", "micropython", "dmsetup",
    # what Python runs on
    "python3-minimal", "libpython3-stdlib", "python3-pkg-resources",
    "python3-cryptography", "python3-numpy", "python3-yaml", "python3-jinja2", "python3-jsonschema", "python3-rich",
    "python3-dnspython", "python3-dpkt", "python3-anyio", "python3-click", "python3-h11", "python3-serial",
    "python3-requests", "python3-dbus-fast",
    # the early loader's libraries
    "libbpf1", "libssl3t64",
)  # fmt: skip

# Debian's are older than what the box is written for, or absent: the versions and hashes of requirements.txt.
WHEELS: Final = (
    "backports-zstd",
    "paho-mqtt",
    "pyroute2",
    "python-multipart",
    "securesystemslib",
    "starlette",
    "tuf",
    "urllib3",
    "uvicorn",
)
WHEEL_PLATFORMS: Final = ("manylinux_2_28_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")

# Headers and stubs that the early loader is compiled and linked against, for arm64.
LOADER_PACKAGES: Final = ("libbpf-dev", "libssl-dev", "libelf-dev", "zlib1g-dev", "libzstd-dev", "linux-libc-dev")

# A Python of the same version that this machine can run: it compiles the byte code.
COMPILER_PACKAGES: Final = ("python3-minimal", "libpython3-stdlib", "libpython3.13-stdlib")

# Loaded by the initramfs, in this order after their own dependencies: what the box's kernel has built in.
EARLY_MODULES: Final = (
    "virtio_mmio", "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "dm-mod", "dm-verity", "crc32c_generic",
    "sha2-ce", "sha256-arm64", "erofs", "ext4", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1",
    "bridge", "veth", "sch_ingress", "cls_bpf", "i6300esb",
)  # fmt: skip

# In the root file system, for udev or a service to load.
MODULES: Final = (
    "loop", "squashfs", "nbd", "leds-gpio", "gpio_keys", "virtio_input", "evdev", "crc32c_generic",
)  # fmt: skip

# Folders of Debian's packages that no box has: documentation, other languages, what builds packages.
DROPPED: Final = (
    "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug",
    "usr/share/doc-base", "usr/share/bash-completion", "usr/share/zsh", "usr/share/fish", "usr/share/perl5",
    "usr/share/perl", "usr/share/debconf", "usr/share/i18n", "usr/share/initramfs-tools", "usr/share/pixmaps",
    "usr/share/polkit-1", "usr/share/apport", "usr/share/gdb", "usr/share/common-licenses", "usr/share/menu",
    "usr/lib/aarch64-linux-gnu/perl", "usr/lib/aarch64-linux-gnu/perl-base", "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/apt", "usr/lib/dpkg", "usr/lib/initramfs-tools", "usr/lib/locale", "usr/lib/udev/hwdb.d",
    "usr/lib/systemd/boot", "usr/lib/systemd/catalog", "usr/lib/python3.13/test", "usr/lib/python3.13/idlelib",
    "usr/lib/python3.13/turtledemo", "usr/lib/python3.13/tkinter", "usr/lib/python3.13/ensurepip",
    "usr/lib/klibc", "usr/lib/dracut", "usr/lib/valgrind", "usr/lib/pcrlock.d", "usr/lib/kernel", "usr/share/zoneinfo",
    "usr/share/gcc", "usr/share/vim", "usr/share/dpkg",
    # written for a root that can be written
    "usr/lib/tmpfiles.d/etc.conf", "usr/lib/tmpfiles.d/credstore.conf", "usr/lib/tmpfiles.d/provision.conf",
    "etc/apt", "etc/cron.d", "etc/cron.daily", "etc/init.d", "etc/initramfs-tools", "etc/kernel", "etc/logrotate.d",
    "etc/rc0.d", "etc/rc1.d", "etc/rc2.d", "etc/rc3.d", "etc/rc4.d", "etc/rc5.d", "etc/rc6.d", "etc/rcS.d",
    "etc/update-motd.d", "boot", "var/lib/dpkg", "var/lib/apt", "var/cache", "var/log",
)  # fmt: skip

# Units of Debian's that a box of the same make by Buildroot does not have, or that cannot work on a read-only root.
DROPPED_UNITS: Final = (
    "systemd-logind.service", "getty.target", "getty-static.service", "systemd-user-sessions.service",
    "systemd-hostnamed.socket", "systemd-creds.socket", "systemd-sysext.socket", "systemd-pcrextend.socket",
    "systemd-pcrlock.socket", "systemd-initctl.socket", "systemd-mountfsd.socket", "systemd-nsresourced.socket",
    "systemd-ask-password-wall.path", "systemd-ask-password-console.path", "systemd-hwdb-update.service",
    "systemd-update-done.service", "systemd-firstboot.service", "systemd-sysusers.service", "ldconfig.service",
    "systemd-journal-catalog-update.service", "systemd-machine-id-commit.service", "systemd-boot-random-seed.service",
    "systemd-pcrmachine.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service",
    "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service", "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount", "e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer",
    "dpkg-db-backup.timer", "systemd-bsod.service", "remote-fs.target", "systemd-pstore.service",
    "systemd-networkd-wait-online.service", "systemd-network-generator.service", "systemd-remount-fs.service",
    # for modules and file systems that the box's kernel does not have
    "kmod-static-nodes.service", "systemd-modules-load.service", "sys-kernel-config.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount", "dev-mqueue.mount",
    "run-lock.mount", "systemd-hibernate-clear.service", "systemd-udev-load-credentials.service",
    "systemd-battery-check.service",
)  # fmt: skip

MASKED_UNITS: Final = (
    "serial-getty@.service", "getty@.service", "console-getty.service", "autovt@.service",
    "sys-fs-fuse-connections.mount",
)  # fmt: skip
"""what udev or a generator would start by name"""

UDEV_RULES: Final = (
    "50-udev-default", "60-block", "60-evdev", "60-input-id", "60-persistent-storage", "60-serial", "64-ext4",
    "73-special-net-names", "75-net-description", "80-drivers", "80-net-setup-link", "99-systemd",
)  # fmt: skip
"""of Debian's rules, those for what the board has; the others only cost time at each of a hundred devices"""
