import json
from dataclasses import replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.prediction.rates import (
    DeviceRates,
    LinearPoint,
    rates_table,
    read_rates,
)
from tests.planner.prediction.rates import MOVED, PAIRS, PRODUCTS, even_rates


def test_a_product_takes_time_in_proportion_between_the_measured_ones() -> None:
    found = even_rates().linear_seconds("bfloat16", 8, 100, 50)
    assert found == pytest.approx(8 * 100 * 50 / PRODUCTS)


def test_few_rows_cost_what_reading_the_weight_costs() -> None:
    points = tuple(LinearPoint("int8", rows, 64, 64, 1e-3) for rows in (1, 4))
    rates = replace(even_rates(), linear=points)
    assert rates.linear_seconds("int8", 2, 64, 64) == pytest.approx(1e-3)
    assert rates.linear_seconds("int8", 8, 64, 64) == pytest.approx(2e-3)


def test_attention_takes_time_in_proportion_to_its_pairs() -> None:
    found = even_rates().attention_seconds("bfloat16", (4, 2, 64), 1, 1, 100)
    assert found == pytest.approx(4 * 64 * 100 / PAIRS)


def test_a_kernel_that_moves_next_to_nothing_costs_what_the_smallest_did() -> None:
    assert even_rates().elementwise_seconds(0) == pytest.approx(1 / MOVED)
    assert even_rates().elementwise_seconds(4096) == pytest.approx(4096 / MOVED)


def test_a_form_that_was_not_measured_is_named_with_those_that_were() -> None:
    with pytest.raises(InputError, match="int4 weights; measured are bfloat16, int8"):
        even_rates().linear_seconds("int4", 1, 64, 64)
    with pytest.raises(InputError, match="int4 keys; measured are bfloat16"):
        even_rates().attention_seconds("int4", (4, 2, 64), 1, 1, 10)


def test_rates_come_back_from_json_as_they_were() -> None:
    rates = even_rates()
    assert read_rates(json.loads(json.dumps(rates_table(rates)))) == rates


def test_the_device_type_has_the_best_rate_of_each_form() -> None:
    kind = even_rates().device_type()
    assert kind.source == "measured"
    assert kind.operations_per_second == pytest.approx(
        {"bfloat16": 2 * PRODUCTS, "int8": 2 * PRODUCTS}
    )
    assert (kind.watts_busy, kind.memory_bytes) == (100.0, 10**9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 0}, "format 0 cannot be read"),
        ({"colour": "red"}, "'colour' of the rates is absent or unknown"),
        ({"linear": [{"form": "int8"}]}, "'linear' cannot be read"),
        ({"elementwise": [{"num_bytes": 1, "seconds": 0.0}]}, "'elementwise' took no time"),
        ({"elementwise": [{"num_bytes": 1, "seconds": float("nan")}]}, "took no time"),
    ],
)
def test_a_damaged_table_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rates({**rates_table(even_rates()), **change})


def test_a_missing_field_is_named() -> None:
    table = rates_table(even_rates())
    del table["vendor"]
    with pytest.raises(InputError, match="'vendor'"):
        read_rates(table)


def test_rates_without_points_are_asked_to_be_measured() -> None:
    bare = DeviceRates(
        device="bare",
        vendor="here",
        memory_bytes=1,
        read_bytes_per_second=1.0,
        program_seconds=0.0,
        linear=(),
        attention=(),
        elementwise=(),
    )
    with pytest.raises(InputError, match="never measured for kernels that only move bytes"):
        bare.elementwise_seconds(10)
