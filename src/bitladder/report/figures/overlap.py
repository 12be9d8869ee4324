"""Do float and int8 fail on the same samples?"""

import math

import plotly.graph_objects as go
import torch

from bitladder.metrics import ErrorSetOverlap
from bitladder.report.content import Section, Table, number
from bitladder.report.style import FLOAT_COLOUR, INT8_COLOUR, NEUTRAL
from bitladder.runs import RunRecord
from bitladder.runs.predictions import Predictions, read_predictions

TEXT = """\
The overlap is Jaccard's: of the samples that either rung gets wrong, the share that both do. Chance
is what independent errors at the same two rates would give, the most is what these rates allow. The
excess is where the overlap lies between them: 1 is the most, 0 is chance.
"""


def section(record: RunRecord) -> Section | None:
    """The overlap of the rungs' errors; None where not both answered.

    Raises:
        UserError: If ``predictions.npz`` is not what a run writes.
    """
    predictions = read_predictions(record.directory)
    if predictions is None or not {"float", "int8"} <= set(predictions.logits):
        return None
    found = overlap(predictions)
    names = {
        "p": "error rate of float",
        "q": "error rate of int8",
        "jaccard": "overlap of their errors",
        "expected": "overlap by chance",
        "highest": "the most that is possible",
        "excess": "excess over chance",
    }
    rows = [[label, number(found[name], ".4f")] for name, label in names.items()]
    figure = scale(found)
    return Section(
        title="The same errors?",
        text=f"{answer(found)}\n\n{TEXT}",
        tables=[Table(columns=["figure", "value"], rows=rows, plain=True)],
        figures=[figure] if figure else [],
    )


def overlap(predictions: Predictions) -> dict[str, float]:
    """What :class:`bitladder.metrics.ErrorSetOverlap` says of float and int8."""
    metric = ErrorSetOverlap()
    classes = [torch.from_numpy(predictions.classes(rung)) for rung in ("float", "int8")]
    metric.update(classes[0], classes[1], torch.from_numpy(predictions.labels.astype("int64")))
    return {name: float(value) for name, value in metric.compute().items()}


def answer(found: dict[str, float]) -> str:
    """The answer in a sentence."""
    if math.isnan(found["jaccard"]):
        return "Neither rung makes an error on the test split."
    if math.isnan(found["excess"]):
        return "One rung makes no error, or all samples are wrong: nothing can overlap by choice."
    excess = found["excess"]
    if excess > 0.5:
        verdict = "Float and int8 fail mostly on the same samples"
    elif excess > 0.1:
        verdict = "Float and int8 fail on the same samples more often than by chance"
    elif excess > -0.1:
        verdict = "Float and int8 fail on the same samples about as often as by chance"
    else:
        verdict = "Float and int8 fail on other samples than each other"
    shares = f"{found['jaccard']:.0%} of all errors are common, {found['expected']:.0%} by chance"
    return f"{verdict}: {shares}, {found['highest']:.0%} at most (excess {excess:.2f})."


def scale(found: dict[str, float]) -> go.Figure | None:
    """The overlap on the way from chance to the most; None where there is none."""
    if math.isnan(found["jaccard"]):
        return None
    figure = go.Figure()
    figure.add_bar(
        x=[found["expected"], found["jaccard"], found["highest"]],
        y=["by chance", "found", "at most"],
        orientation="h",
        marker_color=[NEUTRAL, INT8_COLOUR, FLOAT_COLOUR],
        text=[f"{found[name]:.1%}" for name in ("expected", "jaccard", "highest")],
    )
    figure.update_layout(
        title="Errors that float and int8 have in common",
        xaxis={"title": "share of the samples that either gets wrong", "range": (0, 1)},
        yaxis={"autorange": "reversed"},
        height=240,
    )
    return figure
