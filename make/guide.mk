.PHONY: guide

guide: setup ## the printed guide for town halls (PDF); ARGS="--name … --phone … --csirt …"
	@$(PYTHON_ENV) scripts/guide.py $(ARGS)
