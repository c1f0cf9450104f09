################################################################################
#
# vigie-bpf
#
################################################################################

VIGIE_BPF_VERSION = 0.1.0
VIGIE_BPF_SITE = $(BR2_EXTERNAL_VIGIE_PATH)/firmware/bpf
VIGIE_BPF_SITE_METHOD = local
VIGIE_BPF_LICENSE = GPL-2.0 (data path), EUPL-1.2 (early loader)
VIGIE_BPF_LICENSE_FILES = LICENSE GPL-2.0-only.txt
VIGIE_BPF_DEPENDENCIES = host-clang libbpf openssl
# The data path is a program of another machine ("Linux BPF"), which the check of each package's programs refuses. Folders only.
VIGIE_BPF_BIN_ARCH_EXCLUDE = /usr/lib/vigie

# Newer objects of the host would look like ours.
VIGIE_BPF_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude=/build

# host-llvm knows the target's processor alone; BR2_PACKAGE_LLVM_BPF would bring LLVM to the target.
ifeq ($(BR2_PACKAGE_VIGIE_BPF)$(BR2_PACKAGE_LLVM_BPF),y)
# check-package TypoInPackageVariable
LLVM_TARGETS_TO_BUILD += BPF
endif

define VIGIE_BPF_COPY_LICENSES
	cp $(BR2_EXTERNAL_VIGIE_PATH)/LICENSE \
		$(BR2_EXTERNAL_VIGIE_PATH)/LICENSES/GPL-2.0-only.txt $(@D)/
endef
VIGIE_BPF_POST_RSYNC_HOOKS += VIGIE_BPF_COPY_LICENSES

# The compiler proper: `clang` is Buildroot's wrapper, which adds the target processor's options. libbpf's own
# <linux/bpf.h> comes first, as the toolchain's may be older than the box's kernel.
VIGIE_BPF_UAPI = -isystem $(STAGING_DIR)/usr/include/bpf
VIGIE_BPF_INCLUDES = $(VIGIE_BPF_UAPI) -isystem $(STAGING_DIR)/usr/include
VIGIE_BPF_MAKE_OPTS = \
	OUT=$(@D)/target \
	CLANG=$(HOST_DIR)/bin/clang-$(CLANG_VERSION_MAJOR).br_real \
	STRIP=$(HOST_DIR)/bin/llvm-strip \
	ARCH_INCLUDE="-nostdlibinc $(VIGIE_BPF_INCLUDES)" \
	CC="$(TARGET_CC)" \
	CFLAGS="$(TARGET_CFLAGS) $(VIGIE_BPF_UAPI)" \
	LDFLAGS="$(TARGET_LDFLAGS)"

define VIGIE_BPF_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) $(VIGIE_BPF_MAKE_OPTS) all
endef

# The manifest of a release takes the object's digest from here.
define VIGIE_BPF_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0644 $(@D)/target/filter.bpf.o \
		$(TARGET_DIR)/usr/lib/vigie/filter.bpf.o
	$(INSTALL) -D -m 0755 $(@D)/target/vigie-early \
		$(TARGET_DIR)/usr/lib/vigie/vigie-early
	mkdir -p $(BINARIES_DIR)
	sha256sum <$(@D)/target/filter.bpf.o | cut -d' ' -f1 \
		>$(BINARIES_DIR)/filter.bpf.o.sha256
endef

$(eval $(generic-package))
