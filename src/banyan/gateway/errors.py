"""Errors as OpenAI's API spells them.

Owns the mapping from our exception tree to a status and a JSON body. Called by the
application's exception handlers and by event streams that fail after their first byte.

Status codes: 400 a bad request, 404 an unknown path or model, 405 a wrong method, 413 a body
over the limit, 415 a body that is not JSON, 429 this caller asks for too much, 500 our fault, 503
the engine is not there or has too much to do, 504 an answer could not begin before its deadline.
"""

import math

import msgspec
from starlette.responses import Response

from banyan.foundation.errors import (
    BanyanError,
    DeadlineMissed,
    EngineStopped,
    InputError,
    Overloaded,
    RequestError,
    UnknownAdapter,
)


class ApiError(BanyanError):
    """A request answered with an error: a status and the four fields of an OpenAI error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        parameter: str | None = None,
        code: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.parameter = parameter
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class ErrorDetail(msgspec.Struct, frozen=True):
    """The inside of an OpenAI error body."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(msgspec.Struct, frozen=True):
    """An OpenAI error body."""

    error: ErrorDetail


def refuse(message: str, *, parameter: str | None = None, code: str | None = None) -> ApiError:
    """Build the error of a request that asks for something it may not have (400)."""
    return ApiError(400, message, parameter=parameter, code=code)


def to_api_error(error: BaseException) -> ApiError:
    """Say what any exception means to the caller; our own faults keep their details to the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnknownAdapter):
        return ApiError(404, str(error), parameter=error.parameter, code="model_not_found")
    if isinstance(error, RequestError):
        return refuse(str(error), parameter=error.parameter)
    if isinstance(error, InputError):
        return refuse(str(error))
    if isinstance(error, EngineStopped):
        return ApiError(
            503, str(error), kind="server_error", code="engine_stopped", retry_after_seconds=5
        )
    if isinstance(error, Overloaded):
        is_theirs = error.is_callers_share
        return ApiError(
            429 if is_theirs else 503,
            str(error),
            kind="rate_limit_error" if is_theirs else "server_error",
            code="rate_limit_exceeded" if is_theirs else "overloaded",
            retry_after_seconds=max(1, math.ceil(error.retry_after_seconds)),
        )
    if isinstance(error, DeadlineMissed):
        return ApiError(504, str(error), kind="server_error", code="deadline_missed")
    if isinstance(error, BanyanError):
        return ApiError(500, str(error), kind="server_error", code="internal_error")
    return ApiError(
        500,
        f"the server failed on this request ({type(error).__name__}); its log says more",
        kind="server_error",
        code="internal_error",
    )


def error_body(error: ApiError) -> bytes:
    """Encode `{"error": {"message", "type", "param", "code"}}`."""
    detail = ErrorDetail(error.message, error.kind, error.parameter, error.code)
    return msgspec.json.encode(ErrorReply(detail))


def error_response(error: ApiError) -> Response:
    """Answer with the error's status; 429 and 503 also say when to come back."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return Response(
        error_body(error),
        status_code=error.status,
        headers=headers,
        media_type="application/json",
    )
