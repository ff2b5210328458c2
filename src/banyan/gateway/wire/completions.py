"""The body of `POST /v1/completions`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from banyan.gateway.errors import refuse
from banyan.gateway.wire.body import SmallInteger, TokenId
from banyan.gateway.wire.structure import StructureFields


class CompletionRequest(StructureFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/completions`; a prompt is text, token ids, or a list of either.

    `echo` puts the prompt before the answer, with its own log probabilities when `logprobs` are
    asked for; `best_of` makes so many answers and gives the `n` likeliest; a `suffix` is what
    follows the answer, for models that can fill in a middle.
    """

    not_served: ClassVar[Mapping[str, tuple[Any, ...]]] = {"prompt_embeds": ()}

    prompt: str | list[str | TokenId | list[TokenId]]
    prompt_embeds: Any = None
    logprobs: SmallInteger | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: SmallInteger | None = None
    add_special_tokens: bool | None = None

    def check(self) -> None:
        """Refuse fields that do not go together."""
        super().check()
        if self.best_of is not None:
            self._check_best_of(self.best_of, self.n or 1)
        if self.echo and self.suffix:
            raise refuse("echo and suffix do not go together; leave one out", parameter="suffix")
        if self.echo and self.stream and self.logprobs is not None:
            raise refuse(
                "echo with logprobs cannot be streamed; set stream to false", parameter="echo"
            )
        if self.max_tokens == 0 and not self.echo:
            raise refuse(
                "max_tokens=0 asks for nothing; it is possible with echo=true only",
                parameter="max_tokens",
            )

    def _check_best_of(self, best_of: int, n: int) -> None:
        if best_of < n:
            raise refuse(
                f"best_of={best_of} is less than n={n}; make it at least as many",
                parameter="best_of",
            )
        if self.stream and best_of > n:
            raise refuse(
                f"best_of={best_of} with n={n} cannot be streamed; set stream to false",
                parameter="best_of",
            )
