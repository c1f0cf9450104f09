# The firmware image, by Buildroot. scripts/image.py says what it needs; none of this needs `make setup`.
#   BOARD=cm4|qemu  BUILDROOT_DIR=checkout  TRUST=folder  BASE=file.vgb  RELEASE=2026.12.1  DEV=1
BOARD ?= cm4
IMAGE_COMMON = --board '$(BOARD)' $(if $(BUILDROOT_DIR),--buildroot '$(BUILDROOT_DIR)')

.PHONY: image check-buildroot

image: ## BOARD=cm4|qemu TRUST=DIR: the image (RELEASE=2026.12.1), bill of materials and manifest, by Buildroot
	@python3 -m scripts.image build $(IMAGE_COMMON) $(if $(TRUST),--trust '$(TRUST)') $(if $(BASE),--base '$(BASE)') \
		$(if $(RELEASE),--release '$(RELEASE)') $(if $(DEV),--dev)

br-%:
	@python3 -m scripts.image br $(IMAGE_COMMON) $*

check-buildroot: ## BUILDROOT_DIR=DIR: configurations, recipes and plans against a real Buildroot, without building
	@test -n '$(BUILDROOT_DIR)' || { echo 'check-buildroot: BUILDROOT_DIR=DIR is missing: a checkout of Buildroot' >&2; exit 2; }
	@python3 -m scripts.check_buildroot '$(BUILDROOT_DIR)'
