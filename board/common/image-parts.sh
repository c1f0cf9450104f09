# SPDX-License-Identifier: EUPL-1.2
# The parts of post-image.sh; sourced, after layout.sh.

fail() {
	echo "post-image: $*" >&2
	exit 1
}

need_tools() {
	for tool in veritysetup mkfs.fat mcopy mke2fs genimage sha256sum; do
		command -v "$tool" > /dev/null || fail "$tool is missing (Buildroot: select its host package; Debian: scripts/packages.txt)"
	done
	if [ "$1" != cm4 ]; then
		for tool in mkimage mkenvimage; do
			command -v "$tool" > /dev/null || fail "$tool is missing: u-boot-tools"
		done
	fi
}

need_files() {
	for file in "$@"; do
		[ -f "$file" ] || fail "$file is missing"
	done
}

# Seconds since 1970 of the release; of the file when nobody said.
source_date() {
	stat -c %Y "$1"
}

# FILE OUT JSON: the file system, then verity's superblock and hash tree.
make_verity() {
	_size=$(stat -c %s "$1")
	_data=$(((_size + 4095) / 4096))
	_digest=$(sha256sum "$1" | cut -c 1-64)
	_uuid=$(echo "$_digest" | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-4\3-8\4-\5/')
	cp --sparse=always "$1" "$2"
	truncate -s $((_data * 4096)) "$2"
	_root=$(veritysetup format --hash=sha256 --data-block-size=4096 --hash-block-size=4096 --data-blocks=$_data \
		--hash-offset=$((_data * 4096)) --salt="$_digest" --uuid="$_uuid" "$2" "$2" |
		sed -n 's/^Root hash:[[:space:]]*//p')
	[ ${#_root} = 64 ] || fail "veritysetup gave no root hash for $1"
	truncate -s %4096 "$2"
	_all=$(stat -c %s "$2")
	[ "$_all" -le $((ROOT_MIB * 1048576)) ] ||
		fail "$1 and its hash tree are $((_all / 1048576)) MiB, the slot has $ROOT_MIB"
	cat > "$3" <<-END
		{"root_hash": "$_root", "salt": "$_digest", "uuid": "$_uuid", "data_blocks": $_data, "size": $_all}
	END
}

verity_field() {
	sed -E "s/.*\"$2\": \"?([0-9a-f-]+)\"?.*/\1/" "$1"
}

# TEMPLATE SLOT JSON: the kernel's command line of that slot, one line.
# dm-mod.create is read by the kernel itself (DM_INIT) on the CM4 and in Buildroot's QEMU, by the initramfs on the
# virtual board. A damaged block panics: reading on past it would run half a system.
command_line() {
	case "$2" in
	A) _part=$ROOT_PART_A ;;
	B) _part=$ROOT_PART_B ;;
	esac
	_device=PARTUUID=$PARTUUID_PREFIX-0$_part
	_blocks=$(verity_field "$3" data_blocks)
	_table="0 $((_blocks * 8)) verity 1 $_device $_device 4096 4096 $_blocks $((_blocks + 1)) sha256"
	_table="$_table $(verity_field "$3" root_hash) $(verity_field "$3" salt) 1 panic_on_corruption"
	_base=$(grep -v '^#' "$1" | tr '\n' ' ' | sed 's/  */ /g; s/ $//')
	echo "$_base rauc.slot=$2 vigie.roothash=$(verity_field "$3" root_hash) dm-mod.waitfor=$_device" \
		"dm-mod.create=\"vigie-root,,,ro,$_table\" root=/dev/dm-0 rootfstype=erofs rootwait ro"
}

# FOLDER OUT MIB FAT-BITS LABEL VOLUME-ID
make_fat() {
	find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	mkfs.fat --invariant -F "$4" -n "$5" -i "$6" -S 512 -C "$2" $(($3 * 1024)) > /dev/null
	(cd "$1" && find . -mindepth 1 -maxdepth 1 | LC_ALL=C sort | while read -r _one; do
		mcopy -s -m -i "$2" "$_one" ::/ || exit 1
	done) || fail "$1 does not fit into $3 MiB"
}

# OUT MIB LABEL UUID JOURNAL-MIB: an empty ext4 whose bytes do not depend on when it was made.
make_ext4() {
	truncate -s "$2M" "$1"
	E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -b 4096 -I 256 -m 0 -J "size=$5" -L "$3" -U "$4" \
		-E "hash_seed=$4,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0" "$1"
}

# TEXT OUT: both copies start equal; fw_setenv and boot.scr then write them in turn.
make_uboot_environment() {
	mkenvimage -r -s $((UBOOT_ENV_KIB * 1024)) -o "$2" "$1"
}

# BINARIES FILES BOOT SELECT
cm4_files() {
	need_files "$1/rpi-firmware/start4.elf" "$1/rpi-firmware/fixup4.dat"
	cp "$1/rpi-firmware/start4.elf" "$1/rpi-firmware/fixup4.dat" "$3/"
	_found=
	for _tree in "$1"/bcm2711-rpi-cm4*.dtb; do
		[ -f "$_tree" ] || continue
		cp "$_tree" "$3/"
		_found=yes
	done
	[ -n "$_found" ] || fail "$1: no device tree bcm2711-rpi-cm4*.dtb"
	if [ -d "$1/rpi-firmware/overlays" ]; then
		mkdir "$3/overlays"
		for _overlay in $(sed -n -E 's/^dtoverlay=([a-z0-9-]+).*/\1/p' "$2/config.txt" | sort -u); do
			need_files "$1/rpi-firmware/overlays/$_overlay.dtbo"
			cp "$1/rpi-firmware/overlays/$_overlay.dtbo" "$3/overlays/"
		done
		[ ! -f "$1/rpi-firmware/overlays/overlay_map.dtb" ] ||
			cp "$1/rpi-firmware/overlays/overlay_map.dtb" "$3/overlays/"
	fi
	cp "$2/config.txt" "$3/config.txt"
	# Should a firmware not know the filter [boot_partition=N], it boots A's root file system, whole or not at all.
	cp "$3/cmdline-A.txt" "$3/cmdline.txt"
	cp "$2/autoboot.txt" "$4/autoboot.txt"
}

# BINARIES FILES BOOT SELECT
qemu_files() {
	[ ! -f "$1/initramfs.img" ] || cp "$1/initramfs.img" "$3/initramfs.img"
	for _slot in A B; do
		# U-Boot reads variables, not bare lines.
		printf 'cmdline=%s\n' "$(cat "$3/cmdline-$_slot.txt")" > "$3/cmdline-$_slot.env"
	done
	mkimage -A arm64 -T script -C none -n vigie -d "$2/boot.cmd" "$4/boot.scr" > /dev/null
}

# TEMPLATE IMAGE BOARD
fill_in() {
	_environment=
	if [ "$3" != cm4 ]; then
		for _offset in $UBOOT_ENV_OFFSETS_KIB; do
			_environment="$_environment\\tpartition env-$_offset {\\n\\t\\tin-partition-table = false\\n"
			_environment="$_environment\\t\\toffset = ${_offset}K\\n\\t\\timage = \"uboot.env\"\\n\\t\\tsize = ${UBOOT_ENV_KIB}K\\n\\t}\\n"
		done
	fi
	sed -e "s/@IMAGE@/$2/" -e "s/@DISK_SIGNATURE@/$DISK_SIGNATURE/" -e "s/@FIRST_OFFSET_KIB@/$FIRST_OFFSET_KIB/" \
		-e "s/@SELECT_MIB@/$SELECT_MIB/" -e "s/@BOOT_MIB@/$BOOT_MIB/" -e "s/@ROOT_MIB@/$ROOT_MIB/" \
		-e "s/@IDENTITY_MIB@/$IDENTITY_MIB/" -e "s/@DATA_MIB@/$DATA_MIB/" -e "s/@UBOOT_ENV@/$_environment/" "$1"
}

# BOARD WORK OUT: what `rauc bundle` packs and signs, on the machine that holds the release key.
bundle_input() {
	rm -rf "$3"
	mkdir -p "$3"
	cp --sparse=always "$2/in/rootfs.verity" "$3/rootfs.img"
	cp --sparse=always "$2/in/boot.vfat" "$3/boot.vfat"
	cat > "$3/manifest.raucm" <<-END
		[update]
		compatible=vigie-$1
		version=${VIGIE_VERSION:-0}

		[bundle]
		format=verity

		[image.rootfs]
		filename=rootfs.img
		adaptive=block-hash-index

		[image.boot]
		filename=boot.vfat
	END
}
