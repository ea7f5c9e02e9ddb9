"""The tools of the agent: a ledger that it may query, and a calculator. No network."""

from __future__ import annotations

import ast
import operator
import sqlite3
from collections.abc import Callable
from typing import Any

LEDGER = """
create table expenses (month text, team text, vendor text, cents integer);
insert into expenses values
  ('2026-01', 'research', 'Lumen Cloud', 1820000), ('2026-01', 'sales', 'Skyline Rail', 412550),
  ('2026-02', 'research', 'Lumen Cloud', 2460000), ('2026-02', 'sales', 'Skyline Rail', 388000),
  ('2026-03', 'research', 'Lumen Cloud', 3975000), ('2026-03', 'sales', 'Skyline Rail', 405100),
  ('2026-03', 'research', 'Harbor Labs', 690000);
"""


def query(sql: str) -> list[list[Any]]:
    """Rows of a read-only query over `expenses(month, team, vendor, cents)`."""
    ledger = sqlite3.connect(":memory:")
    try:
        ledger.executescript(LEDGER)
        ledger.execute("pragma query_only = on")
        return [list(row) for row in ledger.execute(sql).fetchmany(100)]
    finally:
        ledger.close()


OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> float:
    """The value of an expression of numbers and + - * / ( )."""
    return _value(ast.parse(expression, mode="eval").body)


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left), _value(right))
    raise ValueError(f"not arithmetic: {ast.unparse(node)}")


TOOLS: dict[str, Callable[..., Any]] = {"query": query, "calculate": calculate}
