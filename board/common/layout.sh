# SPDX-License-Identifier: EUPL-1.2
# The disk of every board, in one place: see docs/adr/0015. Sourced by post-image.sh, read by `vm.layout` and the tests.
DISK_SIGNATURE=0x76696769
PARTUUID_PREFIX=76696769

SELECT_PART=1
BOOT_PART_A=2
BOOT_PART_B=3
ROOT_PART_A=5
ROOT_PART_B=6
IDENTITY_PART=7
DATA_PART=8

FIRST_OFFSET_KIB=4096
SELECT_MIB=16
BOOT_MIB=128
ROOT_MIB=512
IDENTITY_MIB=16
# As flashed; the first boot grows it to the end of the disk.
DATA_MIB=128

# U-Boot's environment on the virtual board: two copies before the first partition, as fw_env.config names them.
UBOOT_ENV_KIB=64
UBOOT_ENV_OFFSETS_KIB="512 576"
