"""What a kernel's vfat writes to change one small file, recorded below it: `python -m vm.fatwrites`."""
