from typing import Any

import numpy as np

from bitladder.report.content import as_cell
from bitladder.report.figures.confusion import confusion, differing, probabilities
from bitladder.runs.predictions import Predictions


def predictions() -> Predictions:
    eye = 3 * np.eye(3, dtype=np.float32)
    return Predictions(
        labels=np.array([0, 1, 2, 1]),
        logits={"float": eye[[0, 1, 1, 0]], "int8": eye[[0, 2, 2, 2]]},
    )


def test_rows_are_what_float_says_and_columns_what_int8_says() -> None:
    figure = confusion(np.array([0, 0, 1]), np.array([0, 2, 1]), 3)
    heatmap: Any = figure.data[0]
    assert heatmap.customdata.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert heatmap.text.tolist()[0] == ["1", "", "1"]


def test_samples_on_which_the_rungs_differ_are_listed_with_who_is_right() -> None:
    rows = [[as_cell(content).text for content in row] for row in differing(predictions()).rows]
    share = f"{100 * np.exp(3) / (np.exp(3) + 2):.1f}%"
    assert rows == [
        ["1", "1", "1", share, "2", share, "float"],
        ["2", "2", "1", share, "2", share, "int8"],
        ["3", "1", "0", share, "2", share, "neither"],
    ]


def test_probabilities_of_large_logits_do_not_overflow() -> None:
    shares = probabilities(np.array([[1e30, 0.0], [-1e4, -1e4]], dtype=np.float32))
    assert np.allclose(shares, [[1.0, 0.0], [0.5, 0.5]])
