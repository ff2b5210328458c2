"""Linear and integer programs over columns, solved by HiGHS. The one door to that library. Pure."""

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import BanyanError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer to a program.

    Attributes:
        amounts: of each column.
        prices: of each row: what one unit more of its limit is worth; zeros for integer programs.
        objective: value of all columns together.
    """

    amounts: Array
    prices: Array
    objective: float


def maximise(
    values_N: Array,
    usage_NR: Array,
    limits_R: Array,
    *,
    floors: Array | None = None,
    integer: bool = False,
    most_nodes: int = 2000,
    time_limit: float = 5.0,
) -> Solution | None:
    """Choose amounts >= 0 of N columns that together use at most the limits of R rows.

    Args:
        values_N: what one of each column is worth.
        usage_NR: what one of each column takes of each row.
        limits_R: of the rows; infinity where there is none.
        floors: least use of each row; None: none.
        integer: amounts are whole numbers.
        most_nodes: of an integer program that are looked at; the best answer until then counts.
        time_limit: seconds for HiGHS, a last resort.

    Returns:
        None where no amounts keep to limits and floors, or none were found in time.

    Raises:
        BanyanError: HiGHS cannot say.
    """
    num_columns, num_rows = usage_NR.shape
    if not num_columns:
        return Solution(np.zeros(0), np.zeros(num_rows), 0.0)
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    # One thread: plans are the same everywhere, and the machine may be serving.
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", time_limit)
    # Nodes, not seconds, end a search: so a plan does not depend on how busy the machine is.
    solver.setOptionValue("mip_max_nodes", most_nodes)
    solver.setOptionValue("mip_rel_gap", 1e-4)
    least = np.full(num_rows, -highspy.kHighsInf) if floors is None else floors
    solver.passModel(_program(values_N, usage_NR, limits_R, least, integer))
    solver.run()
    status = solver.getModelStatus()
    answered = {
        highspy.HighsModelStatus.kOptimal,
        highspy.HighsModelStatus.kTimeLimit,
        highspy.HighsModelStatus.kSolutionLimit,
    }
    found = solver.getSolution()
    if status not in answered or not found.value_valid:
        if status == highspy.HighsModelStatus.kInfeasible or status in answered:
            return None
        raise BanyanError(
            f"HiGHS answered {status.name} to {num_columns} columns and {num_rows} rows; "
            "please report this plan"
        )
    amounts = np.array(found.col_value)
    if integer:
        amounts = np.round(amounts)
    prices = np.zeros(num_rows) if integer else np.abs(np.array(found.row_dual))
    return Solution(amounts, prices, float(values_N @ amounts))


def _program(
    values_N: Array, usage_NR: Array, limits_R: Array, floors_R: Array, integer: bool
) -> Any:
    num_columns, num_rows = usage_NR.shape
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = num_columns, num_rows
    program.sense_ = highspy.ObjSense.kMaximize
    program.col_cost_ = values_N
    program.col_lower_ = np.zeros(num_columns)
    program.col_upper_ = np.full(num_columns, highspy.kHighsInf)
    program.row_lower_ = floors_R
    program.row_upper_ = np.where(np.isinf(limits_R), highspy.kHighsInf, limits_R)
    column, row = np.nonzero(usage_NR)
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = np.searchsorted(column, np.arange(num_columns + 1)).astype(np.int32)
    program.a_matrix_.index_ = row.astype(np.int32)
    program.a_matrix_.value_ = usage_NR[column, row]
    if integer:
        program.integrality_ = [highspy.HighsVarType.kInteger] * num_columns
    return program
