################################################################################
#
# vigie
#
################################################################################

VIGIE_VERSION = 0.1.0
VIGIE_SITE = $(BR2_EXTERNAL_VIGIE_PATH)/firmware
VIGIE_SITE_METHOD = local
VIGIE_SETUP_TYPE = hatch
VIGIE_LICENSE = EUPL-1.2
VIGIE_LICENSE_FILES = LICENSE
VIGIE_DEPENDENCIES = host-python-babel

# What a checkout has built for the host has no place here.
VIGIE_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = \
	--exclude=/bpf/build --exclude=/dist --exclude=__pycache__ --exclude=*.mo

define VIGIE_COPY_LICENSE
	cp $(BR2_EXTERNAL_VIGIE_PATH)/LICENSE $(@D)/LICENSE
endef
VIGIE_POST_RSYNC_HOOKS += VIGIE_COPY_LICENSE

# Compiled catalogues are not in git.
define VIGIE_COMPILE_CATALOGUES
	$(HOST_DIR)/bin/python3 $(VIGIE_PKGDIR)/compile-catalogues \
		$(@D)/src/vigie/locale
endef
VIGIE_PRE_BUILD_HOOKS += VIGIE_COMPILE_CATALOGUES

# Units, configuration, base and trust: one script for every way to build a box.
define VIGIE_INSTALL_BOX
	VIGIE_BOARD=$(call qstrip,$(BR2_VIGIE_BOARD)) \
	VIGIE_TRUST=$(call qstrip,$(BR2_VIGIE_TRUST)) \
	$(if $(call qstrip,$(BR2_VIGIE_BASE)),VIGIE_BASE=$(call qstrip,$(BR2_VIGIE_BASE))) \
		$(VIGIE_PKGDIR)/install.sh $(TARGET_DIR)
endef
VIGIE_POST_INSTALL_TARGET_HOOKS += VIGIE_INSTALL_BOX

# No program of the image changes its user: busybox is no login here, and systemd starts what is on the bus. This recipe
# comes after theirs, which set the bit; the later line counts.
define VIGIE_PERMISSIONS
	/bin/busybox f 755 0 0 - - - - -
	/usr/libexec/dbus-daemon-launch-helper f 755 0 0 - - - - -
endef

# A table of its own, so that the virtual board makes the same users with the same numbers.
define VIGIE_USERS
	$(file <$(VIGIE_PKGDIR)/users.table)
endef

$(eval $(python-package))
