"""The result of a node that was executed without dbt, in dbt's words."""

from __future__ import annotations

from dbt_operator.runner.executors import Answer, StatementError
from dbt_operator.runner.output import Line


def success(node: Line, answer: Answer, *, warn_error: bool) -> Line:
    """What dbt says where the warehouse has answered. Raises: StatementError where no test can answer that."""
    base: Line = {"adapter_response": answer.response}
    if node["kind"] != "test":
        return {**base, "status": "success", "message": answer.message, "failures": None}
    return {**base, **_tested(node, answer, warn_error=warn_error)}


def failure(node: Line, error: StatementError) -> Line:
    """What dbt says of an error of the warehouse."""
    lines = [*str(error).split("\n"), *([f"compiled code at {node['compiled_path']}"] if node["compiled_path"] else [])]
    head = f"Database Error in {node['kind']} {node['name']} ({node['path']})"
    text = "\n".join((head, *(f"  {line}" for line in lines)))
    return {"status": "error", "message": text, "failures": None, "adapter_response": error.response}


def _tested(node: Line, answer: Answer, *, warn_error: bool) -> Line:
    """The verdict, as dbt's TestRunner comes to it: the thresholds are part of the query."""
    if len(answer.rows) != 1 or len(answer.columns) != 3:
        count = f"{len(answer.rows)} rows" if len(answer.rows) != 1 else f"{len(answer.columns)} columns"
        wanted = "1 row" if len(answer.rows) != 1 else "3 columns"
        raise StatementError(f"the query of the test returned {count}, but expected {wanted}")
    row = dict(zip((column.lower() for column in answer.columns), answer.rows[0]))
    try:
        failures, should_warn, should_error = (
            int(row["failures"]),
            _truth(row["should_warn"]),
            _truth(row["should_error"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StatementError(f"the query of the test returned what is no result of a test: {row}") from error
    got = f"Got {failures} {'result' if failures == 1 else 'results'}, configured to"
    if node["severity"].upper() == "ERROR" and should_error:
        return {"status": "fail", "message": f"{got} fail if {node['error_if']}", "failures": failures}
    if should_warn:
        status, verb = ("fail", "fail") if warn_error else ("warn", "warn")
        return {"status": status, "message": f"{got} {verb} if {node['warn_if']}", "failures": failures}
    return {"status": "pass", "message": None, "failures": 0}


def _truth(value: object) -> bool:
    # Of a warehouse without booleans a driver gives texts or numbers, as dbt knows.
    if isinstance(value, str):
        return {"true": True, "t": True, "false": False, "f": False}[value.lower()]
    return bool(value)
