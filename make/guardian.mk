bench-guardian: preflight ## memory and start of the guardian in real MicroPython
	@$(ROOT) $(PYTHON_ENV) -m bench.guardian $(ARGS)
