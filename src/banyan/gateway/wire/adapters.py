"""The bodies of `POST /v1/load_lora_adapter` and `POST /v1/unload_lora_adapter`, as in vLLM."""

from banyan.gateway.errors import refuse
from banyan.gateway.wire.body import RequestBody


class LoadAdapterRequest(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/load_lora_adapter`.

    `lora_path` is a directory on the server's machine; `load_inplace` takes the place of an adapter
    of the same name.
    """

    lora_name: str
    lora_path: str
    load_inplace: bool = False

    def check(self) -> None:
        """Refuse empty names."""
        super().check()
        for name in ("lora_name", "lora_path"):
            if not getattr(self, name).strip():
                raise refuse(f"{name} is empty; give a {name[5:]}", parameter=name)
            if "\0" in getattr(self, name):
                raise refuse(f"{name} holds a null character; leave it out", parameter=name)


class UnloadAdapterRequest(RequestBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/unload_lora_adapter`; `lora_int_id` is accepted and not needed."""

    lora_name: str
    lora_int_id: int | None = None
