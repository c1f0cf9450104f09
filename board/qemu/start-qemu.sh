#!/bin/sh
# SPDX-License-Identifier: EUPL-1.2
# Starts the image next to this script in QEMU, without a boot loader: kernel and slot A's command line from outside.
#   start-qemu.sh [whole|plain] [more arguments of QEMU]
# whole: the disk as on a board, root file system through dm-verity. plain: the root file system alone as /dev/vda.
# romfile=: no network boot, whose ROM not every installation of QEMU has.
set -eu
cd "$(dirname "$0")"
mode=whole
case "${1:-}" in
whole | plain)
	mode=$1
	shift
	;;
esac
if [ "$mode" = plain ]; then
	disk=rootfs.erofs
	line="root=/dev/vda rootfstype=erofs rootwait ro console=ttyAMA0 net.ifnames=0"
else
	disk=vigie-qemu.img
	line=$(cat cmdline-A.txt)
fi
exec qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 1024 -nographic -no-reboot \
	-kernel Image -append "$line" -drive "file=$disk,if=virtio,format=raw,snapshot=on" \
	-netdev user,id=a -device virtio-net-pci,netdev=a,romfile= -netdev user,id=b -device virtio-net-pci,netdev=b,romfile= "$@"
