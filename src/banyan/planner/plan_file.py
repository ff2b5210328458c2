"""Plans as text: TOML that a person can read, change and keep beside a model. Pure.

`parse_plan(print_plan(plan))` gives the same plan. What the text says about devices and layers is
judged by `banyan.planner.plan_check`; here only its form is.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from banyan.foundation.errors import InputError
from banyan.planner.plan import Plan, Prediction, Replica, Stage

FORMAT_VERSION = 1
_PLAN_KEYS = {"format", "model", "fingerprint", "layers", "replica", "prediction"}
_REPLICA_KEYS = {"max_sequences", "stage", "prefill"}
_STAGE_KEYS = {"layers", "devices", "attention", "experts"}
_NUMBERS = ("tokens_per_second", "time_to_first_token", "time_per_output_token")
_OPTIONAL = ("joules_per_token", "cost_per_million_tokens", "upper_bound")


def print_plan(plan: Plan) -> str:
    """Write a plan as TOML."""
    lines = [
        f"format = {FORMAT_VERSION}",
        f"model = {_text(plan.model)}",
        f"fingerprint = {_text(plan.model_fingerprint)}",
        f"layers = {plan.num_layers}",
    ]
    for replica in plan.replicas:
        lines += ["", "[[replica]]", f"max_sequences = {replica.max_sequences}"]
        for table, stages in (("stage", replica.stages), ("prefill", replica.prefill)):
            for stage in stages:
                lines += ["", f"[[replica.{table}]]", *_stage_lines(stage)]
    if plan.prediction is not None:
        lines += ["", "[prediction]", *_prediction_lines(plan.prediction)]
    return "\n".join(lines) + "\n"


def parse_plan(text: str) -> Plan:
    """Read a plan.

    Raises:
        InputError: not TOML, of another format, or a value that is missing or of the wrong kind.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"the plan is not TOML: {error}; print it anew") from error
    _refuse_unknown(table, _PLAN_KEYS, "the plan")
    version = _integer(table, "format", "the plan")
    if version != FORMAT_VERSION:
        raise InputError(
            f"the plan has format {version} and this Banyan reads {FORMAT_VERSION}; plan again"
        )
    prediction = table.get("prediction")
    return Plan(
        model=_string(table, "model", "the plan"),
        model_fingerprint=_string(table, "fingerprint", "the plan"),
        num_layers=_integer(table, "layers", "the plan"),
        replicas=tuple(
            _replica(entry, f"replica {number}")
            for number, entry in enumerate(_tables(table, "replica", "the plan"))
        ),
        prediction=None if prediction is None else _prediction(prediction),
    )


def _stage_lines(stage: Stage) -> Iterator[str]:
    yield f"layers = [{stage.first_layer}, {stage.end_layer}]"
    yield f"devices = {_names_text(stage.devices)}"
    if stage.attention:
        yield f"attention = {_names_text(stage.attention)}"
    if stage.experts:
        yield f"experts = {_names_text(stage.experts)}"


def _prediction_lines(prediction: Prediction) -> Iterator[str]:
    for name in (*_NUMBERS, *_OPTIONAL):
        value = getattr(prediction, name)
        if value is not None:
            yield f"{name} = {float(value)!r}"
    if prediction.memory_bytes:
        yield ""
        yield "[prediction.memory_bytes]"
        for device, num_bytes in prediction.memory_bytes.items():
            yield f"{_text(device)} = {num_bytes}"


def _text(value: str) -> str:
    # A JSON string is a TOML string but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _names_text(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(_text(name) for name in names) + "]"


def _replica(table: Mapping[str, Any], place: str) -> Replica:
    _refuse_unknown(table, _REPLICA_KEYS, place)
    return Replica(
        stages=_stages(table, "stage", place),
        prefill=_stages(table, "prefill", place),
        max_sequences=_integer(table, "max_sequences", place) if "max_sequences" in table else 0,
    )


def _stages(table: Mapping[str, Any], key: str, place: str) -> tuple[Stage, ...]:
    return tuple(
        _stage(entry, f"{place}, {key} {number}")
        for number, entry in enumerate(_tables(table, key, place))
    )


def _stage(table: Mapping[str, Any], place: str) -> Stage:
    _refuse_unknown(table, _STAGE_KEYS, place)
    layers = table.get("layers")
    if not (isinstance(layers, list) and len(layers) == 2 and all(type(x) is int for x in layers)):
        raise InputError(f"{place} has layers {layers!r}; [first, end] with two integers is needed")
    return Stage(
        layers[0],
        layers[1],
        _names(table, "devices", place),
        _names(table, "attention", place),
        _names(table, "experts", place),
    )


def _prediction(table: object) -> Prediction:
    place = "prediction"
    if not isinstance(table, dict):
        raise InputError(f"prediction is {table!r}; a table is needed")
    _refuse_unknown(table, {*_NUMBERS, *_OPTIONAL, "memory_bytes"}, place)
    memory = table.get("memory_bytes", {})
    if not isinstance(memory, dict):
        raise InputError(f"memory_bytes of the prediction is {memory!r}; a table is needed")
    optional = {name: _number(table, name, place) for name in _OPTIONAL if name in table}
    return Prediction(
        tokens_per_second=_number(table, "tokens_per_second", place),
        time_to_first_token=_number(table, "time_to_first_token", place),
        time_per_output_token=_number(table, "time_per_output_token", place),
        memory_bytes={name: _integer(memory, name, "memory_bytes") for name in memory},
        joules_per_token=optional.get("joules_per_token", 0.0),
        cost_per_million_tokens=optional.get("cost_per_million_tokens"),
        upper_bound=optional.get("upper_bound"),
    )


def _refuse_unknown(table: Mapping[str, Any], known: set[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise InputError(
                f"{place} has {key!r}, which is not known; known are {', '.join(sorted(known))}"
            )


def _tables(table: Mapping[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    entries = table.get(key, [])
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise InputError(f"{key} of {place} is {entries!r}; tables [[{key}]] are needed")
    return entries


def _names(table: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
    names = table.get(key, [])
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise InputError(f"{key} of {place} is {names!r}; a list of names of devices is needed")
    return tuple(names)


def _string(table: Mapping[str, Any], key: str, place: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise InputError(f"{key} of {place} is {value!r}; a text is needed")
    return value


def _integer(table: Mapping[str, Any], key: str, place: str) -> int:
    value = table.get(key)
    if type(value) is not int:
        raise InputError(f"{key} of {place} is {value!r}; an integer is needed")
    return value


def _number(table: Mapping[str, Any], key: str, place: str) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{key} of {place} is {value!r}; a number is needed")
    return float(value)
