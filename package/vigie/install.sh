#!/bin/sh
# SPDX-License-Identifier: EUPL-1.2
# Puts into a target folder what is the same on every box, however the box is built: units, configuration, guardian,
# base, trust. Buildroot (vigie.mk) and the virtual board (vm/) both call it.
#
#   package/vigie/install.sh TARGET_DIR
#
# VIGIE_BOARD=cm4|qemu|vm (cm4)   VIGIE_TRUST=DIR of the department   VIGIE_BASE=FILE.vgb with FILE.img beside it
# SOURCE_DATE_EPOCH               the build time, which is the clock's floor
set -eu

HERE=$(cd "$(dirname "$0")" && pwd)
TARGET=${1:?usage: install.sh TARGET_DIR}
BOARD=${VIGIE_BOARD:-cm4}
TRUST=${VIGIE_TRUST:-}
BASE=${VIGIE_BASE:-$HERE/base/base.vgb}
GUARDIAN=$HERE/../../firmware/guardian
UNITS=$TARGET/usr/lib/systemd/system

die() { echo "install.sh: $*" >&2; exit 1; }
put() { install -D -m "$1" "$2" "$3"; }

case "$BOARD" in
cm4) guardian_board=cm4io ;;
qemu | vm) guardian_board=vm ;;
*) die "VIGIE_BOARD=$BOARD: cm4, qemu or vm" ;;
esac
[ -d "$TARGET" ] || die "$TARGET: no such folder"

# --- units. No [Install] sections: what starts when is written here, and `systemctl preset-all` changes nothing.
for unit in "$HERE"/*.service "$HERE"/*.path "$HERE"/*.mount; do
	put 0644 "$unit" "$UNITS/${unit##*/}"
done
while read -r target unit source; do
	case "$target" in '' | '#'*) continue ;; esac
	install -d "$UNITS/$target.wants"
	ln -sfn "../${source:-$unit}" "$UNITS/$target.wants/$unit"
done < "$HERE/enabled"
put 0644 "$HERE/10-vigie.preset" "$TARGET/usr/lib/systemd/system-preset/10-vigie.preset"
put 0644 "$HERE/vigie.tmpfiles" "$TARGET/usr/lib/tmpfiles.d/vigie.conf"
put 0644 "$HERE/vigie.sysctl" "$TARGET/usr/lib/sysctl.d/60-vigie.conf"
for rules in "$HERE"/*.rules; do
	[ ! -e "$rules" ] || put 0644 "$rules" "$TARGET/usr/lib/udev/rules.d/${rules##*/}"
done

# --- programs and configuration
for program in vigie-storage vigie-network vigie-request; do
	put 0755 "$HERE/$program" "$TARGET/usr/lib/vigie/$program"
done
put 0644 "$HERE/data.conf" "$TARGET/usr/lib/vigie/data.conf"
put 0644 "$HERE/filter.yaml" "$TARGET/etc/vigie/filter.yaml"
install -d "$TARGET/etc/vigie"
sed "s/@BOARD@/$BOARD/" "$HERE/box.yaml" > "$TARGET/etc/vigie/box.yaml"
chmod 0644 "$TARGET/etc/vigie/box.yaml"

# --- guardian
for file in "$GUARDIAN"/*.py "$GUARDIAN"/legend.json; do
	put 0644 "$file" "$TARGET/usr/lib/vigie/guardian/${file##*/}"
done
put 0644 "$GUARDIAN/boards/$guardian_board.json" "$TARGET/etc/vigie/guardian.json"

# --- base: the file for `vigie filter`, the image for the early loader
image=${BASE%.vgb}.img
[ -f "$BASE" ] && [ -f "$image" ] || die "$BASE: both the base and its image ($image) are needed: vigie base apply $BASE --image $image"
put 0644 "$BASE" "$TARGET/usr/share/vigie/base.vgb"
put 0644 "$image" "$TARGET/usr/share/vigie/base.img"

# --- trust: public parts of the department, nothing secret
rm -rf "$TARGET/usr/share/vigie/trust"
if [ -n "$TRUST" ]; then
	for file in roots.pem tuf-root.json steering.json domain; do
		[ -s "$TRUST/$file" ] || die "$TRUST/$file is missing: VIGIE_TRUST is the trust folder of the department (vigie-department init)"
	done
	for file in "$TRUST"/*; do
		[ -f "$file" ] || continue
		! grep -q 'PRIVATE KEY' "$file" || die "$file holds a private key, which has no business in an image"
		put 0644 "$file" "$TARGET/usr/share/vigie/trust/${file##*/}"
	done
	echo "${SOURCE_DATE_EPOCH:-$(date +%s)}" > "$TARGET/usr/share/vigie/trust/build-time"
	chmod 0644 "$TARGET/usr/share/vigie/trust/build-time"
else
	echo "install.sh: WARNING: no department (VIGIE_TRUST): the image filters, but enrols nowhere and takes no update" >&2
fi
