# Updates of the firmware: what they survive (docs/adr/0022).

bench-powercut: preflight ## power cuts at every step of an update, counted; ARGS="--every 10" for a share
	@$(PYTHON_ENV) -m bench.powercut $(ARGS)
