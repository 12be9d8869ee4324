"""The samples on which float and int8 differ, as pictures."""

import numpy as np
import plotly.express as px
import plotly.graph_objects as go

from bitladder.report.content import Section
from bitladder.runs import RunRecord
from bitladder.runs.predictions import read_predictions
from bitladder.runs.samples import Samples, read_samples

COLUMNS = 6
TILE = 96
"""Pixels of an image's longer side, at most."""
GAP = 12
CAPTION = 28
"""Pixels between the images of two columns, and below each of them for its caption."""
MOST = 32
"""Pictures shown."""


def section(record: RunRecord) -> Section | None:
    """A picture a sample, with what is right and what each rung says; None where none was kept.

    Raises:
        UserError: If a file is not what a run writes.
    """
    samples = read_samples(record.directory)
    predictions = samples and read_predictions(record.directory)
    if samples is None or predictions is None:
        return None
    if not {"float", "int8"} <= set(predictions.logits):
        return None
    known = samples.index < len(predictions.labels)
    samples = Samples(samples.index[known][:MOST], samples.images[known][:MOST])
    if not len(samples.index) or samples.images.shape[1] not in (1, 3):
        return None
    says = {rung: predictions.classes(rung) for rung in ("float", "int8")}
    captions = [
        (int(predictions.labels[i]), int(says["float"][i]), int(says["int8"][i]))
        for i in samples.index
    ]
    return Section(
        title="Pictures",
        text="Samples of the test split on which the rungs differ: the right class, what float says"
        " and what int8 says. Each picture is stretched from black to white.",
        figures=[pictures(samples.images, captions)],
    )


def pictures(images: np.ndarray, captions: list[tuple[int, int, int]]) -> go.Figure:
    """All images as one picture, each with its caption below.

    Args:
        images: ``[images, channels, height, width]``, uint8, of one or three channels.
        captions: The right class, float's and int8's, one an image.
    """
    whole, corners = mosaic(images)
    # PNG in the page itself, a hundredth of numbers in JSON; gaps show the theme's ground.
    figure = px.imshow(
        whole, binary_string=True, binary_backend="pypng", binary_compression_level=9
    )
    figure.update_traces(hoverinfo="skip", hovertemplate=None)
    height, width = _tile(images)
    figure.add_scatter(
        x=[left + width / 2 for _, left in corners],
        y=[top + height + CAPTION / 2 for top, _ in corners],
        mode="text",
        text=[" | ".join(map(str, caption)) for caption in captions],
        textfont={"size": 11},
        customdata=captions,
        hovertemplate="%{customdata[0]}: float says %{customdata[1]}, int8 %{customdata[2]}"
        "<extra></extra>",
    )
    figure.update_layout(
        title="Samples on which float and int8 differ: right | float | int8",
        xaxis={"visible": False, "range": [0, whole.shape[1]], "constrain": "domain"},
        yaxis={
            "visible": False,
            "range": [whole.shape[0], 0],
            "scaleanchor": "x",
            "constrain": "domain",
            "constraintoward": "top",  # a phone's column is narrow, and the rest below it
        },
        height=60 + whole.shape[0],
        margin={"l": 0, "r": 0},
        showlegend=False,
    )
    return figure


def mosaic(images: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Put images beside and below each other: small ones enlarged, large ones thinned.

    Args:
        images: uint8 ``[images, channels, height, width]``, one channel or three.

    Returns:
        One image, uint8 ``[height, width, 4]`` with transparent gaps, and where in it each of them
        has its upper left corner: row and column.
    """
    step, factor = _zoom(images)
    height, width = _tile(images)
    rows = -(-len(images) // COLUMNS)
    whole = np.zeros((rows * (height + CAPTION), COLUMNS * (width + GAP), 4), dtype=np.uint8)
    corners = [
        (index // COLUMNS * (height + CAPTION), index % COLUMNS * (width + GAP) + GAP // 2)
        for index in range(len(images))
    ]
    for (top, left), image in zip(corners, images, strict=True):
        shown = image[:, ::step, ::step].repeat(factor, axis=1).repeat(factor, axis=2)
        whole[top : top + height, left : left + width, :3] = np.moveaxis(shown, 0, 2)
        whole[top : top + height, left : left + width, 3] = 255
    return whole, corners


def _zoom(images: np.ndarray) -> tuple[int, int]:
    """Every how many of its pixels are shown, and how large each of them."""
    side = max(images.shape[2:])
    return -(-side // TILE), max(1, TILE // side)


def _tile(images: np.ndarray) -> tuple[int, int]:
    """Height and width of an image as it is shown."""
    step, factor = _zoom(images)
    height, width = (-(-side // step) * factor for side in images.shape[2:])
    return height, width
