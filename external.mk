# SPDX-License-Identifier: EUPL-1.2
# Buildroot reads this file: one folder under package/ is one recipe.

# No loadable code in the kernel. A board's own configuration has hundreds of modules; with CONFIG_MODULES off, Kconfig
# would turn each `=m` into `=y`. So they go first, then the fragments get the last word, then modules themselves go.
# Buildroot runs this after it has merged the fragments and before the final `olddefconfig`.
define VIGIE_LINUX_CONFIG_FIXUPS
	$(SED) 's/^\(CONFIG_[A-Za-z0-9_]*\)=m$$/# \1 is not set/' $(KCONFIG_DOT_CONFIG)
	cat $(LINUX_KCONFIG_FRAGMENT_FILES) >> $(KCONFIG_DOT_CONFIG)
	$(call KCONFIG_DISABLE_OPT,CONFIG_MODULES)
endef

include $(sort $(wildcard $(BR2_EXTERNAL_VIGIE_PATH)/package/*/*.mk))
