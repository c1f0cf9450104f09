################################################################################
#
# python-securesystemslib
#
################################################################################

PYTHON_SECURESYSTEMSLIB_VERSION = 1.6.0
PYTHON_SECURESYSTEMSLIB_SOURCE = securesystemslib-$(PYTHON_SECURESYSTEMSLIB_VERSION).tar.gz
PYTHON_SECURESYSTEMSLIB_SITE = https://github.com/secure-systems-lab/securesystemslib/releases/download/v$(PYTHON_SECURESYSTEMSLIB_VERSION)
PYTHON_SECURESYSTEMSLIB_LICENSE = MIT
PYTHON_SECURESYSTEMSLIB_LICENSE_FILES = LICENSE
PYTHON_SECURESYSTEMSLIB_SETUP_TYPE = hatch
# Upstream pins its builder to one release; Buildroot has another.
PYTHON_SECURESYSTEMSLIB_BUILD_OPTS = --skip-dependency-check

$(eval $(python-package))
