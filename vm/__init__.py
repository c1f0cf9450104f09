"""The virtual board: the box's image on QEMU's `virt`, from Debian's packages, in the lab in place of the box."""
