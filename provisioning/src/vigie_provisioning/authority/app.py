"""HTTP around `Front`: five POST requests, bounded bodies, the headers that nginx sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from vigie.contract.enrolment import BODY_MAX, EnrolCode
from vigie_provisioning.authority.front import Answer, Call, Front, Handler, busy, refusal

BODY_S: Final = 10.0
VERIFY: Final = "x-vigie-client-verify"
CERTIFICATE: Final = "x-vigie-client-cert"
PEER: Final = "x-vigie-peer"


def application(front: Front) -> Starlette:
    """The ASGI application. It trusts the three headers: only nginx can open its socket, and sets them itself."""
    handlers = {
        "/v1/challenge": front.challenge,
        "/v1/enrol": front.enrol,
        "/v1/confirm": front.confirm,
        "/v1/renew": front.renew,
        "/v1/decommission": front.decommission,
    }
    routes = [Route(path, _endpoint(front, handler), methods=["POST"]) for path, handler in handlers.items()]
    return Starlette(routes=routes)


def _endpoint(front: Front, handler: Handler) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        try:
            body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return _response(busy(503, 1.0))
        if body is None:
            return _response(refusal(EnrolCode.MALFORMED))
        headers = request.headers
        call = Call(body, headers.get(PEER, ""), headers.get(VERIFY, "NONE"), headers.get(CERTIFICATE, ""))
        return _response(await front.answer(handler, call))

    return endpoint


async def _body(request: Request) -> bytes | None:
    """The body; None when it is larger than the contract allows."""
    parts: list[bytes] = []
    size = 0
    async with asyncio.timeout(BODY_S):
        async for part in request.stream():
            size += len(part)
            if size > BODY_MAX:
                return None
            parts.append(part)
    return b"".join(parts)


def _response(answer: Answer) -> Response:
    headers = {"cache-control": "no-store"}
    if answer.retry_after_s:
        headers["retry-after"] = str(answer.retry_after_s)
    return Response(answer.body, answer.status, headers, "application/json")
