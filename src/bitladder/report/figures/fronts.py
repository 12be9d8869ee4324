"""What accuracy costs: the rungs that no other beats in both."""

from collections.abc import Sequence

import plotly.graph_objects as go

from bitladder.report.content import Section
from bitladder.report.grouping import ACCURACY, Point, by_recipe, points, tasks
from bitladder.report.statistics import spread
from bitladder.report.style import NEUTRAL, OKABE_ITO, SYMBOLS, plain
from bitladder.runs import RunRecord

COSTS = {
    "latency_ms/batch_1": "latency at batch 1, ms",
    "latency_ms/batch_32": "latency at batch 32, ms",
    "size_bytes": "size of the file, bytes",
}

TEXT = """\
Each point is a rung of a recipe (precision + quantization), the mean over its seeds; bars are one
standard deviation. Up and to the left is better. The line joins the points that no other beats in
both. Circles are float, squares int8.
"""


def section(records: Sequence[RunRecord]) -> Section | None:
    """Accuracy against latency and size, a task at a time."""
    if sum(map(len, by_recipe(records).values())) < 2:
        return None  # one run has its ratios on a page of its own
    found = list(points(records))
    figures = [
        figure
        for task in tasks(records)
        for cost in COSTS
        if (figure := front([x for x in found if x.recipe.task == task], cost, task)) is not None
    ]
    return Section(title="Fronts", text=TEXT, figures=figures) if figures else None


def front(found: Sequence[Point], cost: str, task: str) -> go.Figure | None:
    """Accuracy against one cost; None with fewer than two points."""
    placed = []
    for point in found:
        (x, dx), (y, dy) = (spread(list(point.values(k).values())) for k in (cost, ACCURACY))
        if x == x and y == y:
            placed.append((point, x, dx, y, dy))
    if len(placed) < 2:
        return None
    best = not_beaten([(x, y) for _, x, _, y, _ in placed])
    figure = go.Figure()
    figure.add_scatter(
        x=[x for x, _ in best],
        y=[y for _, y in best],
        mode="lines",
        line={"color": NEUTRAL, "dash": "dot", "shape": "hv"},
        name="not beaten",
        hoverinfo="skip",
    )
    precisions = list(dict.fromkeys(point.recipe.precision for point, *_ in placed))
    for name, index in {"float": 0, "int8": 1}.items():
        for colour, precision in enumerate(precisions):
            own = [p for p in placed if (p[0].rung, p[0].recipe.precision) == (name, precision)]
            if not own:
                continue
            figure.add_scatter(
                x=[x for _, x, *_ in own],
                y=[y for *_, y, _ in own],
                error_x={"array": [zero(dx) for _, _, dx, *_ in own], "thickness": 1},
                error_y={"array": [zero(dy) for *_, dy in own], "thickness": 1},
                mode="markers",
                marker={
                    "color": OKABE_ITO[colour % len(OKABE_ITO)],
                    "symbol": SYMBOLS[index],
                    "size": 10,
                },
                name=plain(f"{precision}, {name}"),
                text=[f"{p.recipe.label}, {name}, {len(p.rungs)} runs" for p, *_ in own],
                hovertemplate="%{text}<br>%{x:.4g}, %{y:.4f}<extra></extra>",
            )
    figure.update_layout(
        title=plain(f"Accuracy against {COSTS[cost]} ({task})"),
        xaxis={"title": COSTS[cost], "tickformat": "~s" if cost == "size_bytes" else None},
        yaxis={"title": ACCURACY},
        height=420,
    )
    return figure


def not_beaten(placed: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other has at most the cost and at least the accuracy of, by cost."""
    best: list[tuple[float, float]] = []
    for cost, accuracy in sorted(set(placed), key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((cost, accuracy))
    return best


def zero(deviation: float) -> float:
    """A bar of no length where one run gives no deviation."""
    return 0.0 if deviation != deviation else deviation
