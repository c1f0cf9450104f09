#!/bin/sh
# SPDX-License-Identifier: EUPL-1.2
# Last touches to the target folder, after packages and overlays: what depends on the board and the version.
#
#   post-build.sh TARGET_DIR BOARD [...]      BOARD: cm4, qemu or vm
#
# Called by Buildroot (BR2_ROOTFS_POST_BUILD_SCRIPT) and by the virtual board's build. May run twice over one folder.
# VIGIE_VERSION: else the version of firmware/pyproject.toml.
set -eu

TARGET=${1:?usage: post-build.sh TARGET_DIR BOARD}
BOARD=${2:?usage: post-build.sh TARGET_DIR BOARD (cm4, qemu or vm)}
HERE=$(cd "$(dirname "$0")" && pwd)
TREE=$(dirname "$(dirname "$HERE")")
. "$HERE/layout.sh"
VERSION=${VIGIE_VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' "$TREE/firmware/pyproject.toml" | head -n 1)}
[ -n "$VERSION" ] || {
	echo "post-build: no version: set VIGIE_VERSION" >&2
	exit 1
}

case "$BOARD" in
cm4)
	bootloader=custom
	handlers="
[handlers]
bootloader-custom-backend=/usr/lib/rauc/boot-backend
"
	;;
qemu | vm)
	bootloader=uboot
	handlers=
	;;
*)
	echo "post-build: board $BOARD is unknown: cm4, qemu or vm" >&2
	exit 1
	;;
esac

# -- who this is ----------------------------------------------------------------------------------------------------------
mkdir -p "$TARGET/etc/vigie" "$TARGET/usr/lib"
rm -f "$TARGET/etc/os-release" "$TARGET/usr/lib/os-release"
cat > "$TARGET/usr/lib/os-release" <<END
NAME=Vigie
ID=vigie
PRETTY_NAME="Vigie $VERSION ($BOARD)"
VERSION_ID=$VERSION
VARIANT_ID=$BOARD
END
ln -s ../usr/lib/os-release "$TARGET/etc/os-release"
echo "$VERSION" > "$TARGET/etc/vigie/version"
echo vigie > "$TARGET/etc/hostname"

# -- where things get mounted on a root file system that nobody can write to ----------------------------------------------------
mkdir -p "$TARGET/data" "$TARGET/identity" "$TARGET/proc" "$TARGET/sys" "$TARGET/dev" "$TARGET/run" "$TARGET/tmp" \
	"$TARGET/var"

# -- updates ------------------------------------------------------------------------------------------------------------------
mkdir -p "$TARGET/etc/rauc" "$TARGET/usr/lib/rauc" "$TARGET/usr/lib/systemd/system/multi-user.target.wants"
awk -v board="$BOARD" -v bootloader="$bootloader" -v handlers="$handlers" \
	-v partuuid="$PARTUUID_PREFIX" -v boot_a="$BOOT_PART_A" -v boot_b="$BOOT_PART_B" \
	-v root_a="$ROOT_PART_A" -v root_b="$ROOT_PART_B" '
	/^#/ { next }
	/^@HANDLERS@$/ { print handlers; next }
	{
		gsub(/@BOARD@/, board); gsub(/@BOOTLOADER@/, bootloader); gsub(/@PARTUUID@/, partuuid)
		gsub(/@BOOT_A@/, boot_a); gsub(/@BOOT_B@/, boot_b); gsub(/@ROOT_A@/, root_a); gsub(/@ROOT_B@/, root_b)
		print
	}' "$TREE/ota/rauc/system.conf.in" > "$TARGET/etc/rauc/system.conf"
if [ "$BOARD" = cm4 ]; then
	install -m 0755 "$TREE/ota/rauc/boot-backend" "$TARGET/usr/lib/rauc/boot-backend"
	# A trial is committed after its soak, not by the mere start.
	install -m 0644 "$TREE/ota/rauc/vigie-boot-start.service" "$TARGET/usr/lib/systemd/system/vigie-boot-start.service"
	ln -sfn ../vigie-boot-start.service \
		"$TARGET/usr/lib/systemd/system/multi-user.target.wants/vigie-boot-start.service"
	mkdir -p "$TARGET/usr/lib/systemd/system/vigie-boot-good.service.d"
	printf '[Service]\nExecCondition=/usr/bin/python3 -m vigie.update.boot settled\n' \
		> "$TARGET/usr/lib/systemd/system/vigie-boot-good.service.d/trial.conf"
	rm -f "$TARGET/etc/fw_env.config"
else
	install -m 0644 "$TREE/ota/rauc/fw_env.config" "$TARGET/etc/fw_env.config"
fi
install -m 0644 "$TREE/ota/rauc/vigie-boot-good.service" "$TARGET/usr/lib/systemd/system/vigie-boot-good.service"
ln -sfn ../vigie-boot-good.service \
	"$TARGET/usr/lib/systemd/system/multi-user.target.wants/vigie-boot-good.service"
