"""Whether a difference is more than the luck of a seed."""

import math
from collections.abc import Sequence

from bitladder.report.content import Cell, Content, Section, Table, number
from bitladder.report.grouping import ACCURACY, Point, points, tasks
from bitladder.report.statistics import LEAST, Comparison, compare, holm
from bitladder.runs import RunRecord

BASELINE = ("fp32", "none", "float")

TEXT = """\
Accuracy against the float model that was trained in fp32 without quantization, seed by seed. p is
exact: the share of all changes of sign of the differences that lie as far from zero; "for all" is
adjusted for the number of comparisons (Holm). The interval is Student's, at 95%.
"""


def section(records: Sequence[RunRecord]) -> Section | None:
    """A row a rung that shares seeds with the baseline; None where nothing can be compared."""
    found = list(points(records))
    rows: list[list[Content]] = []
    pairs: list[int] = []
    for task in tasks(records):
        own = [point for point in found if point.recipe.task == task]
        base = next((point for point in own if _key(point) == BASELINE), None)
        if base is None:
            continue
        others = [point for point in own if point is not base]
        known = base.values(ACCURACY)
        results = [compare(known, point.values(ACCURACY)) for point in others]
        adjusted = holm([result.p for result in results])
        for point, result, p in zip(others, results, adjusted, strict=True):
            if result.pairs:
                rows.append(_row(point, result, p))
                pairs.append(result.pairs)
    if not rows:
        return None
    columns = ["task", "precision", "quantization", "rung", "seeds", "difference", "95% interval"]
    table = Table(columns=[*columns, "p", "p for all"], rows=rows)
    return Section(title="Significance", text=f"{TEXT}\n\n{reach(max(pairs))}", tables=[table])


def reach(pairs: int) -> str:
    """What so many seeds can show at all."""
    if pairs < LEAST:
        return f"With {pairs} of the same seeds nothing can be said of chance: train 6 or more."
    smallest = 2.0 ** (1 - min(pairs, 16))
    enough = " No difference can be significant at 5%: 6 seeds are the least." if pairs < 6 else ""
    return f"With {pairs} seeds no p can be below {smallest:.3g}.{enough}"


def _key(point: Point) -> tuple[str, str, str]:
    return point.recipe.precision, point.recipe.quantization, point.rung


def _row(point: Point, result: Comparison, adjusted: float) -> list[Content]:
    interval = Cell("-")
    if not math.isnan(result.low):
        interval = Cell(f"{result.low:+.4f} to {result.high:+.4f}", result.low)
    recipe = point.recipe
    return [
        *(recipe.task, recipe.precision, recipe.quantization, point.rung, result.pairs),
        number(result.difference, "+.4f"),
        interval,
        *(Cell("-") if math.isnan(p) else number(p, ".3g") for p in (result.p, adjusted)),
    ]
