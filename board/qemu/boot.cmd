# SPDX-License-Identifier: EUPL-1.2
# U-Boot on the virtual board: the first slot of BOOT_ORDER that has attempts left, one attempt less each time
# (the contract of RAUC's U-Boot backend: BOOT_ORDER, BOOT_A_LEFT, BOOT_B_LEFT).
#
# U-Boot's own saveenv goes to QEMU's flash, which is not there. The environment is therefore read and written here,
# in fw_setenv's redundant form, on the disk: two copies of 64 KiB (512 KiB and 576 KiB), each a CRC-32 of the data,
# a counter byte and the data. `env import -c` knows the form without the counter: the CRC is moved over it.
# The copy with the higher counter (modulo 256) is the newest; a copy whose CRC is wrong does not count.
setenv copy0 0x44000000
setenv copy1 0x44010000
setenv scratch 0x44020000
virtio read ${copy0} 0x400 0x80
virtio read ${copy1} 0x480 0x80

setenv valid0 0
setenv valid1 0
for n in 1 0; do
  if test ${n} = 0; then setenv from ${copy0}; else setenv from ${copy1}; fi
  setexpr work ${from} + 0x100000
  cp.b ${from} ${work} 0x10000
  cp.b ${from} ${scratch} 4
  setexpr shifted ${work} + 1
  cp.b ${scratch} ${shifted} 4
  setenv BOOT_ORDER
  if env import -c ${shifted} 0xffff BOOT_ORDER; then
    setenv valid${n} 1
  fi
done
setexpr.b count0 *0x44000004
setexpr.b count1 *0x44010004
setenv newest 0
if test ${valid0} = 0; then setenv newest 1; fi
if test ${valid0}${valid1} = 11; then
  if itest ${count1} -gt ${count0}; then setenv newest 1; fi
  if test ${count0} = ff && test ${count1} = 0; then setenv newest 1; fi
  if test ${count1} = ff && test ${count0} = 0; then setenv newest 0; fi
fi
setenv BOOT_ORDER
setenv BOOT_A_LEFT
setenv BOOT_B_LEFT
if test ${newest} = 0; then
  setenv shifted 0x44100001; setenv count ${count0}; setenv target ${copy1}; setenv block 0x480
else
  setenv shifted 0x44110001; setenv count ${count1}; setenv target ${copy0}; setenv block 0x400
fi
env import -c ${shifted} 0xffff BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT

# Nothing left, or nothing readable: start again with both slots rather than stay dark.
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
if itest ${BOOT_A_LEFT} -le 0 && itest ${BOOT_B_LEFT} -le 0; then
  echo "VIGIE: no slot has attempts left, both get them back"
  setenv BOOT_A_LEFT 3
  setenv BOOT_B_LEFT 3
fi

setenv slot
for one in "${BOOT_ORDER}"; do
  if test -z "${slot}"; then
    if test ${one} = A && itest ${BOOT_A_LEFT} -gt 0; then
      setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
      setenv slot A; setenv part 2
    elif test ${one} = B && itest ${BOOT_B_LEFT} -gt 0; then
      setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
      setenv slot B; setenv part 3
    fi
  fi
done
if test -z "${slot}"; then setenv slot A; setenv part 2; fi
echo "VIGIE: slot ${slot}, attempts left A ${BOOT_A_LEFT} B ${BOOT_B_LEFT}"

# The older copy is written, with the next counter: a power cut leaves the other one.
setexpr place ${target} + 1
env export -c -s 0xffff ${place} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
cp.b ${place} ${scratch} 4
cp.b ${scratch} ${target} 4
setexpr count ${count} + 1
setexpr count ${count} \& 0xff
setexpr place ${target} + 4
mw.b ${place} ${count} 1
virtio write ${target} ${block} 0x80

load virtio 0:${part} ${scriptaddr} cmdline-${slot}.env
env import -t ${scriptaddr} ${filesize} cmdline
setenv bootargs "${cmdline}"
load virtio 0:${part} ${kernel_addr_r} Image
setenv initrd -
if load virtio 0:${part} ${ramdisk_addr_r} initramfs.img; then setenv initrd ${ramdisk_addr_r}:${filesize}; fi
booti ${kernel_addr_r} ${initrd} ${fdt_addr}
echo "VIGIE: slot ${slot} does not start"
reset
