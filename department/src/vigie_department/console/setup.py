"""Settings of Django, all of them made from the department's configuration; and starting Django in a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from vigie_department import config as configuration
from vigie_department import texts
from vigie_department.config import Config
from vigie_department.console import database
from vigie_department.errors import ConfigError

SECRET_FILE: Final = "session-secret"  # noqa: S105 - a file's name
SECRET_MIN: Final = 50
SETTINGS: Final = "vigie_department.console.settings"
_HERE: Final = Path(__file__).parent


def secret(config: Config) -> str:
    """The key that signs sessions, made by `init`."""
    path = config.paths.data / SECRET_FILE
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(
            config.path, "paths.data", f"{path} cannot be read ({error.strerror}); `vigie-department init` makes it"
        ) from error
    if len(text) < SECRET_MIN:
        raise ConfigError(config.path, "paths.data", f"{path} holds less than {SECRET_MIN} characters")
    return text


def build(config: Config, secret_key: str) -> dict[str, Any]:
    """Every setting."""
    # 443 stands in no URL
    port = "" if config.ports.https == 443 else f":{config.ports.https}"
    return {
        "VIGIE": config,
        "SECRET_KEY": secret_key,
        "DEBUG": False,
        "ALLOWED_HOSTS": [config.console_host],
        "CSRF_TRUSTED_ORIGINS": [f"https://{config.console_host}{port}"],
        "DATABASES": {"default": database.settings(config)},
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.staticfiles",
            "django.contrib.admin.apps.SimpleAdminConfig",
            "django_otp",
            "django_otp.plugins.otp_totp",
            "vigie_department.console.apps.ConsoleConfig",
        ],
        "MIDDLEWARE": [
            "django.middleware.security.SecurityMiddleware",
            "vigie_department.console.web.middleware.headers",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.locale.LocaleMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django_otp.middleware.OTPMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
            "vigie_department.console.web.middleware.second_factor",
        ],
        "ROOT_URLCONF": "vigie_department.console.web.urls",
        "ASGI_APPLICATION": "vigie_department.console.web.asgi.application",
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [_HERE / "templates"],
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ],
                },
            }
        ],
        "AUTH_PASSWORD_VALIDATORS": [
            {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
            for name, options in (
                ("UserAttributeSimilarityValidator", {}),
                ("MinimumLengthValidator", {"min_length": 12}),
                ("CommonPasswordValidator", {}),
                ("NumericPasswordValidator", {}),
            )
        ],
        "LOGIN_URL": "admin:login",
        "LOGIN_REDIRECT_URL": "admin:index",
        "OTP_TOTP_ISSUER": config.organisation or "Vigie",
        # languages, dates
        "LANGUAGE_CODE": config.language,
        "LANGUAGES": [("fr", "Français"), ("en", "English")],
        "LANGUAGE_COOKIE_NAME": "__Host-vigie-language",
        "LANGUAGE_COOKIE_AGE": 365 * 86400,
        "LANGUAGE_COOKIE_SECURE": True,
        "LANGUAGE_COOKIE_HTTPONLY": True,
        "LANGUAGE_COOKIE_SAMESITE": "Strict",
        "LOCALE_PATHS": [texts.LOCALE_DIR],
        "USE_I18N": True,
        "USE_TZ": True,
        "TIME_ZONE": config.time_zone,
        # files that nginx serves
        "STATIC_URL": "/static/",
        "STATIC_ROOT": config.paths.static,
        "STATICFILES_DIRS": [_HERE / "assets"],
        "STORAGES": {
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
        },
        # a session ends with the day's work
        "SESSION_COOKIE_AGE": 10 * 3600,
        "SESSION_EXPIRE_AT_BROWSER_CLOSE": True,
        "SESSION_COOKIE_NAME": "__Host-vigie",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "CSRF_COOKIE_NAME": "__Host-vigie-csrf",
        "CSRF_COOKIE_SECURE": True,
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SAMESITE": "Strict",
        "SECURE_HSTS_SECONDS": 2 * 365 * 86400,
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "SECURE_SSL_REDIRECT": True,
        "SECURE_REFERRER_POLICY": "same-origin",
        "X_FRAME_OPTIONS": "DENY",
        # bounded requests: nothing is uploaded to the console
        "DATA_UPLOAD_MAX_MEMORY_SIZE": 1 << 20,
        "FILE_UPLOAD_HANDLERS": ["django.core.files.uploadhandler.MemoryFileUploadHandler"],
        "DATA_UPLOAD_MAX_NUMBER_FIELDS": 2000,
        "DATA_UPLOAD_MAX_NUMBER_FILES": 1,
        "EMAIL_HOST": config.mail.host,
        "EMAIL_PORT": config.mail.port,
        "DEFAULT_FROM_EMAIL": config.mail.sender or f"vigie@{config.domain}",
        "LOGGING": {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": "INFO"},
            "loggers": {"django": {"handlers": [], "level": "INFO", "propagate": True}},
        },
    }


def start(config: Config) -> None:
    """Set Django up in this process for this configuration. A second call with the same file does nothing."""
    import django
    from django.apps import apps
    from django.conf import settings
    from django.utils import translation

    if apps.ready:
        known: Config = getattr(settings, "VIGIE")  # noqa: B009 - a setting of ours, which type checkers do not know
        if known.path != config.path:
            raise RuntimeError(f"Django is set up for {known.path}, not for {config.path}")
        return
    os.environ[configuration.ENVIRONMENT] = str(config.path)
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
    django.setup()
    translation.activate(texts.current())
