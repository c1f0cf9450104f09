# A real board on the bench, over its serial console (docs/factory.md).
.PHONY: hil

hil: setup ## vm-check's expectations on a real board: PORT=/dev/ttyUSB0 [RELAY=serial:/dev/ttyUSB1] [ARGS=...]
	@[ -n "$(PORT)" ] || { echo "hil: PORT=/dev/ttyUSB0 is needed: the serial adapter at the board's console" >&2; exit 2; }
	@$(PYTHON_ENV) -m hil "$(PORT)" $(if $(RELAY),--relay "$(RELAY)") $(ARGS)
