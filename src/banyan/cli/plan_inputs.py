"""Reads what planning and simulating start from: a model's shape, devices, prices, profiles."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from banyan.cli.devices import read_cpu_profile
from banyan.devices.cpu_probe import CpuProbe
from banyan.devices.profile import DeviceProfile
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.models.description import describe_model
from banyan.planner.costs import CostModel, RooflineCost
from banyan.planner.inventory import DeviceType, Inventory
from banyan.planner.inventory_file import read_inventory, with_prices
from banyan.planner.model_shape import ModelShape, model_shape
from banyan.planner.prediction.measured_cost import MeasuredCost
from banyan.planner.prediction.profile_rates import rates_of_profile
from banyan.planner.prediction.rates import DeviceRates

DTYPES = ("float32", "bfloat16", "float16", "float8", "int8", "int4")
HERE = "here"


@dataclass(frozen=True, slots=True)
class Devices:
    """Devices with their prices, and what predicts steps on them."""

    inventory: Inventory
    costs: CostModel


def read_file(path: Path, what: str) -> str:
    """Read a text file; `what` says in the error what it should be.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"{what} {path} cannot be read: {reason}; name a file of TOML") from error


def read_devices(path: Path, prices: Path | None, settings: Settings) -> Devices:
    """Read an inventory, and its prices where there are some.

    A kind with `profile = "here"` is predicted from what this machine was measured to do, every
    other one from its rates.

    Raises:
        InputError: a file cannot be read, or says something that cannot be used.
    """
    here = _here(settings)
    known = {} if here is None else {HERE: here.type}
    inventory = read_inventory(read_file(path, "the inventory"), known, origin=path.name)
    if prices is not None:
        text = read_file(prices, "the list of prices")
        inventory = with_prices(inventory, text, origin=prices.name)
    return Devices(inventory, _costs(inventory, here))


def read_shape(model: str, *, weights: str, cache: str, settings: Settings) -> ModelShape:
    """Read the shape of a text model from its configuration; no weights are needed.

    Args:
        model: a directory, an id on a hub, or a config.json.
        weights: dtype of the layers, or "auto": as the checkpoint stores them.
        cache: dtype of keys and values, or "auto": as the layers compute.
        settings: of this process.

    Raises:
        InputError: an unknown dtype.
        ModelError: no such model.
    """
    _check_dtype("weights", weights)
    _check_dtype("kv-cache", cache)
    description = describe_model(model, offline=settings.offline)
    weight_dtype = description.weight_dtype if weights == "auto" else weights
    compute: Literal["float32", "bfloat16"] = "float32" if weight_dtype == "float32" else "bfloat16"
    return model_shape(
        description.configuration,
        model,
        weight_dtype=weight_dtype,
        cache_dtype=compute if cache == "auto" else cache,
        compute_dtype=compute,
    )


@dataclass(frozen=True, slots=True)
class _Here:
    """This machine as it was measured; `rates` where programs were measured, too."""

    type: DeviceType
    rates: DeviceRates | None


def _here(settings: Settings) -> _Here | None:
    profile = read_cpu_profile(settings)
    if profile is None:
        return None
    memory = CpuProbe().inventory()[0].memory_bytes
    if not profile.has_programs:
        return _Here(_from_ceilings(profile, memory), None)
    rates = rates_of_profile(profile, vendor="any", memory_bytes=memory, name=HERE)
    return _Here(replace(rates.device_type(), kind="cpu"), rates)


def _from_ceilings(profile: DeviceProfile, memory_bytes: int) -> DeviceType:
    return DeviceType(
        name=HERE,
        vendor="any",
        kind="cpu",
        memory_bytes=memory_bytes,
        read_bytes_per_second=profile.read_bytes_per_second,
        operations_per_second=profile.peaks(),
        launch_seconds=profile.launch_seconds,
        source="measured",
    )


def _costs(inventory: Inventory, here: _Here | None) -> CostModel:
    """Kinds that are measured are predicted from the measurements."""
    measured: Mapping[str, DeviceRates] = {}
    if here is not None and here.rates is not None:
        types = {device.type.name: device.type for device in inventory.devices}
        measured = {
            name: replace(here.rates, device=name)
            for name, kind in types.items()
            if kind.source == "measured"
        }
    return MeasuredCost(measured) if measured else RooflineCost()


def _check_dtype(option: str, value: str) -> None:
    if value != "auto" and value not in DTYPES:
        raise InputError(
            f"--{option} {value!r} is not known; use auto or one of {', '.join(DTYPES)}"
        )
