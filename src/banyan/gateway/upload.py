"""Read the form of an upload within a limit: one file and some fields.

Called by routes that take `multipart/form-data`.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from banyan.gateway.errors import ApiError, refuse

_MOST_FIELDS = 32

# Room for the fields and the lines between them.
_FORM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A file, and the texts of all fields; a field may come several times."""

    file: bytes
    fields: Mapping[str, tuple[str, ...]]


async def read_upload(request: Request, *, limit_bytes: int) -> Upload:
    """Read the form; the file is the field `file`.

    Raises:
        ApiError: 413 over the limit, 415 when it is no form, 400 when it is malformed.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise ApiError(
            415,
            f"the body's Content-Type is {media_type or 'missing'}; send multipart/form-data with "
            "a field 'file'",
            code="unsupported_media_type",
        )
    stream = _limited(request.stream(), limit_bytes=limit_bytes)
    parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=_MOST_FIELDS)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        reason = getattr(error, "message", None) or f"it lacks {error}"
        raise refuse(f"the form is malformed: {reason}", code="invalid_form") from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise refuse("file is missing; send a file in the field 'file'", parameter="file")
        texts: dict[str, tuple[str, ...]] = {}
        for name, value in form.multi_items():
            if isinstance(value, str):
                texts[name] = (*texts.get(name, ()), value)
        return Upload(await file.read(), texts)
    finally:
        await form.close()


async def _limited(
    stream: AsyncGenerator[bytes, None], *, limit_bytes: int
) -> AsyncGenerator[bytes, None]:
    num_bytes = 0
    async for chunk in stream:
        num_bytes += len(chunk)
        if num_bytes > limit_bytes + _FORM_BYTES:
            raise ApiError(
                413,
                f"the upload is over the limit of {limit_bytes} bytes; send a shorter or a "
                "compressed sound",
                parameter="file",
                code="request_too_large",
            )
        yield chunk
