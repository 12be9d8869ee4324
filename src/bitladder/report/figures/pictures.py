"""The samples on which float and int8 differ, as pictures."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bitladder.report.content import Section
from bitladder.runs import RunRecord
from bitladder.runs.predictions import read_predictions
from bitladder.runs.samples import Samples, read_samples

COLUMNS = 8
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
        f"{predictions.labels[i]}: float {says['float'][i]}, int8 {says['int8'][i]}"
        for i in samples.index
    ]
    return Section(
        title="Pictures",
        text="Samples of the test split on which the rungs differ: the right class, then what each "
        "says. Each picture is stretched from black to white.",
        figures=[pictures(samples.images, captions)],
    )


def pictures(images: np.ndarray, captions: list[str]) -> go.Figure:
    """Small images in rows.

    Args:
        images: ``[images, channels, height, width]``, uint8, of one or three channels.
        captions: One an image.
    """
    rows = -(-len(images) // COLUMNS)
    figure = make_subplots(rows, COLUMNS, subplot_titles=captions, vertical_spacing=0.12 / rows)
    for number, image in enumerate(images):
        colours = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
        picture = go.Image(z=colours.tolist(), hoverinfo="skip")
        figure.add_trace(picture, row=number // COLUMNS + 1, col=number % COLUMNS + 1)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_annotations(font_size=10)
    figure.update_layout(title="Samples on which float and int8 differ", height=80 + 130 * rows)
    return figure
