"""What every request body is: a strict struct that knows which of its fields are not served.

Owns the seam by which a group of fields says what it refuses. Called by `parsing`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import msgspec

Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
SmallInteger = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all request types.

    A class in the chain lists in `not_served` the fields it declares that are known but refused,
    each with the values that ask for nothing and therefore pass (null always passes).
    """

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def check(self) -> None:
        """Refuse what types alone cannot express; overriding classes call their base first.

        Raises:
            ApiError: 400, naming the field at fault.
        """


def fields_not_served(kind: type[RequestBody]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the refused fields of a request type and its bases, with their harmless values."""
    for base in kind.__mro__:
        yield from vars(base).get("not_served", {}).items()
