"""Do float and int8 fail on the same samples?"""

import math

import numpy as np
import plotly.graph_objects as go

from bitladder.error_sets import ErrorSets
from bitladder.report.content import Section, Table, number
from bitladder.report.style import FLOAT_COLOUR, INT8_COLOUR, NEUTRAL
from bitladder.runs import RunRecord
from bitladder.runs.predictions import Predictions, read_predictions

CHANCE = 2.0
"""Standard deviations of the number of common errors: less is no reason to doubt chance."""

FEW = 10
"""Errors of one rung, below which a single sample moves everything."""

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
    rows = [
        ["error rate of float", number(found.rate_a, ".4f")],
        ["error rate of int8", number(found.rate_b, ".4f")],
        ["overlap of their errors", number(found.jaccard, ".4f")],
        ["overlap by chance", number(found.expected, ".4f")],
        ["the most that is possible", number(found.highest, ".4f")],
        ["excess over chance", number(found.excess, ".4f")],
    ]
    figure = scale(found)
    return Section(
        title="The same errors?",
        text=f"{answer(found)}\n\n{TEXT}",
        tables=[Table(columns=["figure", "value"], rows=rows, plain=True)],
        figures=[figure] if figure else [],
    )


def overlap(predictions: Predictions) -> ErrorSets:
    """How many samples of the test split float (a), int8 (b) and both get wrong."""
    wrong_a, wrong_b = (predictions.classes(r) != predictions.labels for r in ("float", "int8"))
    counts = (wrong_a, wrong_b, wrong_a & wrong_b)
    return ErrorSets(len(predictions.labels), *(int(np.count_nonzero(x)) for x in counts))


def answer(found: ErrorSets) -> str:
    """The answer in a sentence or two."""
    if math.isnan(found.jaccard):
        return "Neither rung makes an error on the test split."
    if math.isnan(found.excess):
        return "One rung errs never or always on the test split: nothing can overlap by choice."
    if abs(found.deviations) < CHANCE:
        verdict = "Float and int8 may fail on the same samples as often as by chance"
    elif found.excess < 0.0:
        verdict = "Float and int8 fail on other samples than each other"
    elif found.excess > 0.5:
        verdict = "Float and int8 fail mostly on the same samples"
    else:
        verdict = "Float and int8 fail on the same samples more often than by chance"
    shares = f"{found.jaccard:.0%} of all errors are common, {found.expected:.0%} by chance"
    text = f"{verdict}: {shares}, {found.highest:.0%} at most (excess {found.excess:.2f})."
    if min(found.wrong_a, found.wrong_b) < FEW:
        text += (
            f" With {found.wrong_a} errors of float and {found.wrong_b} of int8, a single sample"
            " changes that much."
        )
    return text


def scale(found: ErrorSets) -> go.Figure | None:
    """The overlap on the way from chance to the most; None where there is none."""
    if math.isnan(found.jaccard):
        return None
    shares = (found.expected, found.jaccard, found.highest)
    figure = go.Figure()
    figure.add_bar(
        x=shares,
        y=["by chance", "found", "at most"],
        orientation="h",
        marker_color=[NEUTRAL, INT8_COLOUR, FLOAT_COLOUR],
        text=[f"{share:.1%}" for share in shares],
    )
    figure.update_layout(
        title="Errors that float and int8 have in common",
        xaxis={"title": "share of the samples that either gets wrong", "range": (0, 1)},
        yaxis={"autorange": "reversed"},
        height=240,
    )
    return figure
