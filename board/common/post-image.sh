#!/bin/sh
# SPDX-License-Identifier: EUPL-1.2
# From a root file system, a kernel and the board's boot files to the image of the whole disk (docs/adr/0015).
#
#   post-image.sh BINARIES_DIR BOARD [...]      BOARD: cm4, qemu or vm
#
# Buildroot calls it (BR2_ROOTFS_POST_IMAGE_SCRIPT) and so does the virtual board's build. Reads from BINARIES_DIR:
# rootfs.erofs, Image, for cm4 *.dtb and rpi-firmware/, for the virtual board initramfs.img when there is one. Writes:
#
#   rootfs.verity      the root file system with its hash tree behind it, for both slots
#   verity.json        root hash, salt, sizes
#   boot.vfat          kernel, device tree, both slots' command lines; the same for both slots
#   select.vfat        what chooses the slot
#   vigie-BOARD.img    the disk (sparse)
#   bundle/            what an update carries: rootfs.img, boot.vfat, manifest.raucm
#
# The same input gives the same bytes: salt and UUIDs come from the digest of the root file system, times from
# SOURCE_DATE_EPOCH.
set -eu

BINARIES_DIR=${1:?usage: post-image.sh BINARIES_DIR BOARD}
BOARD=${2:?usage: post-image.sh BINARIES_DIR BOARD (cm4, qemu or vm)}
HERE=$(cd "$(dirname "$0")" && pwd)
BOARDS=$(dirname "$HERE")
if [ -n "${HOST_DIR:-}" ]; then
	PATH="$HOST_DIR/bin:$HOST_DIR/sbin:$PATH"
fi
PATH="$PATH:/usr/sbin:/sbin"
. "$HERE/layout.sh"
. "$HERE/image-parts.sh"

case "$BOARD" in
cm4) files=$BOARDS/cm4 ;;
qemu | vm) files=$BOARDS/qemu ;;
*) fail "board $BOARD is unknown: cm4, qemu or vm" ;;
esac

: "${SOURCE_DATE_EPOCH:=$(source_date "$BINARIES_DIR/rootfs.erofs")}"
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C
need_tools "$BOARD"
need_files "$BINARIES_DIR/rootfs.erofs" "$BINARIES_DIR/Image"

work=$(mktemp -d "${BUILD_DIR:-${TMPDIR:-/tmp}}/vigie-image.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
mkdir "$work/in" "$work/boot" "$work/select" "$work/out" "$work/tmp" "$work/root"

make_verity "$BINARIES_DIR/rootfs.erofs" "$work/in/rootfs.verity" "$work/verity.json"
for slot in A B; do
	cat "$files/cmdline.txt" "$files/cmdline-$BOARD.txt" 2> /dev/null > "$work/cmdline.in" || :
	command_line "$work/cmdline.in" "$slot" "$work/verity.json" > "$work/boot/cmdline-$slot.txt"
done

cp "$BINARIES_DIR/Image" "$work/boot/Image"
if [ "$BOARD" = cm4 ]; then
	cm4_files "$BINARIES_DIR" "$files" "$work/boot" "$work/select"
else
	qemu_files "$BINARIES_DIR" "$files" "$work/boot" "$work/select"
	make_uboot_environment "$files/uboot-env.txt" "$work/in/uboot.env"
fi
make_fat "$work/boot" "$work/in/boot.vfat" "$BOOT_MIB" 32 VIGIE-BOOT 56494742
make_fat "$work/select" "$work/in/select.vfat" "$SELECT_MIB" 16 VIGIE-SEL 56494753
make_ext4 "$work/in/identity.ext4" "$IDENTITY_MIB" vigie-identity 76696769-0000-4000-8000-000000000007 4
make_ext4 "$work/in/data.ext4" "$DATA_MIB" vigie-data 76696769-0000-4000-8000-000000000008 16

fill_in "$HERE/genimage.cfg.in" "vigie-$BOARD.img" "$BOARD" > "$work/genimage.cfg"
genimage --rootpath "$work/root" --tmppath "$work/tmp" --inputpath "$work/in" --outputpath "$work/out" \
	--config "$work/genimage.cfg" > "$work/genimage.log" 2>&1 || fail "genimage: $(cat "$work/genimage.log")"

bundle_input "$BOARD" "$work" "$BINARIES_DIR/bundle"
for made in "$work/in/rootfs.verity" "$work/in/boot.vfat" "$work/in/select.vfat" "$work/verity.json" \
	"$work/boot/cmdline-A.txt" "$work/boot/cmdline-B.txt" "$work/out/vigie-$BOARD.img"; do
	cp --sparse=always "$made" "$BINARIES_DIR/"
done
if [ "$BOARD" = qemu ]; then
	install -m 0755 "$files/start-qemu.sh" "$BINARIES_DIR/start-qemu.sh"
fi
echo "vigie-$BOARD.img: root hash $(verity_field "$work/verity.json" root_hash)"
