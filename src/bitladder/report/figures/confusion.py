"""Float against int8, sample by sample: where the rungs say the same, and where not."""

import numpy as np
import plotly.graph_objects as go

from bitladder.report.content import Cell, Content, Section, Table, number
from bitladder.runs import RunRecord
from bitladder.runs.predictions import Predictions, read_predictions

MOST_CLASSES = 64
"""Of a matrix that can be read."""

MOST_SAMPLES = 500
"""Listed of those on which the rungs differ."""


def section(record: RunRecord) -> Section | None:
    """Confusion of float against int8; None where not both answered.

    Raises:
        UserError: If ``predictions.npz`` is not what a run writes.
    """
    predictions = read_predictions(record.directory)
    if predictions is None or not {"float", "int8"} <= set(predictions.logits):
        return None
    table = differing(predictions)
    float_says, int8_says = predictions.classes("float"), predictions.classes("int8")
    classes = max(logits.shape[1] for logits in predictions.logits.values())
    figures = [confusion(float_says, int8_says, classes)] if classes <= MOST_CLASSES else []
    return Section(
        title="Float against int8",
        text=_sentence(predictions, float_says, int8_says),
        tables=[table] if table.rows else [],
        figures=figures,
    )


def confusion(float_says: np.ndarray, int8_says: np.ndarray, classes: int) -> go.Figure:
    """How often one rung answers a class where the other answers another, on the test split.

    Args:
        float_says: Classes ``[samples]``.
        int8_says: Classes ``[samples]``.
        classes: How many there are.
    """
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (float_says, int8_says), 1)
    names = [str(index) for index in range(classes)]
    figure = go.Figure(
        go.Heatmap(
            z=np.log10(counts + 1.0),
            customdata=counts,
            text=np.where(counts > 0, counts.astype(str), ""),
            texttemplate="%{text}" if classes <= 20 else None,
            x=names,
            y=names,
            hovertemplate="float %{y}, int8 %{x}: %{customdata}<extra></extra>",
            showscale=False,
            xgap=1,
            ygap=1,
        )
    )
    figure.update_layout(
        title="Answers of float against those of int8 (samples; shaded by logarithm)",
        xaxis={"title": "int8 says", "type": "category", "constrain": "domain"},
        yaxis={
            "title": "float says",
            "type": "category",
            "autorange": "reversed",
            "scaleanchor": "x",
        },
        height=520,
    )
    return figure


def differing(predictions: Predictions) -> Table:
    """The samples on which the rungs differ, with the probability of each one's answer."""
    says = {rung: predictions.classes(rung) for rung in ("float", "int8")}
    shares = {rung: probabilities(predictions.logits[rung]) for rung in says}
    rows: list[list[Content]] = []
    for sample in np.flatnonzero(says["float"] != says["int8"])[:MOST_SAMPLES]:
        label = predictions.labels[sample]
        right = [rung for rung in says if says[rung][sample] == label]
        rows.append([int(sample), int(label)])
        for rung, answers in says.items():
            share = float(shares[rung][sample, answers[sample]])
            rows[-1] += [int(answers[sample]), number(100 * share, ".1f", "%")]
        rows[-1].append(Cell(right[0] if right else "neither"))
    columns = ["sample", "label", "float says", "float's probability"]
    columns += ["int8 says", "int8's probability", "right"]
    title = "Samples of the test split on which the rungs differ"
    return Table(title=title, columns=columns, rows=rows)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax ``[samples, classes]``, float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _sentence(predictions: Predictions, float_says: np.ndarray, int8_says: np.ndarray) -> str:
    count = len(predictions.labels)
    different = float_says != int8_says
    float_right = int(np.sum(different & (float_says == predictions.labels)))
    int8_right = int(np.sum(different & (int8_says == predictions.labels)))
    differ = int(different.sum())
    text = f"Of {count} samples of the test split, both rungs answer the same on {count - differ}."
    if differ:
        text += (
            f" On the other {differ}, float alone is right {float_right} times, int8 alone"
            f" {int8_right} times, and neither {differ - float_right - int8_right} times."
        )
    if differ > MOST_SAMPLES:
        text += f" The first {MOST_SAMPLES} of them are listed."
    return text
