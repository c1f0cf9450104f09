"""Entry point of the web server."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
