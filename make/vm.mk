# The virtual board: the box's image under QEMU, in the lab (docs/virtual-board.md).
.PHONY: vm vm-image vm-check test-vm

vm: preflight ## the virtual board in the lab, its console in this terminal (Ctrl-A X ends it)
	@$(ROOT) $(PYTHON_ENV) -m vm run $(ARGS)

vm-image: setup ## the virtual board's image from Debian's packages; prints its folder
	@$(ROOT) $(PYTHON_ENV) -m vm image

vm-check: preflight ## the virtual board without a person: a table, one JSON line, exit 0 only if all holds
	@$(ROOT) $(PYTHON_ENV) -m vm check $(ARGS)

test-vm: preflight ## tests on the virtual board: damage, power cuts, slots, sandboxes
	@$(ROOT) $(PYTHON_ENV) -m pytest tests/vm -m vm $(ARGS)
