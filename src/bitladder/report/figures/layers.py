"""Layer by layer: what became int8, how exactly, and what stayed float."""

import math
from typing import Any

import plotly.graph_objects as go

from bitladder.report.content import Cell, Content, Section, Table, number
from bitladder.report.style import FLOAT_COLOUR, INT8_COLOUR, plain
from bitladder.runs import RunRecord
from bitladder.runs.reading import lookup, real

FOLDED = "folded into "
"""How the reason of a layer begins that is part of another now; nothing of it stays float."""

TEXT = """\
SQNR is the ratio of signal to noise, in dB: 20 dB more is a tenth of the error. The converted int8
model is compared with the one that training or calibration rounded: what conversion added, not
what rounding cost. "Alone" gives each layer its right input, so it is the layer's own; "in the
model" holds what all layers before it added, too. "If only it is rounded" is what rounding this one
layer costs at the model's output, all others in float: the lowest is the first to leave in float.
"""


def section(record: RunRecord) -> Section | None:
    """Everything that ``quantization.json`` says."""
    if record.quantization is None:
        return None
    found = lookup(record.quantization, "layers")
    found = found if isinstance(found, list) else []
    layers = [layer for layer in found if isinstance(layer, dict)]
    tables = [table for table in (quantized(layers), left_in_float(layers)) if table.rows]
    figures = [made for make in (sqnr, sensitivity) if (made := make(layers)) is not None]
    return Section(
        title="Layers",
        text=f"{_sentence(record.quantization, layers)}\n\n{TEXT}",
        tables=tables,
        figures=figures,
    )


def quantized(layers: list[dict[str, Any]]) -> Table:
    """A row a layer that is integer now, by the model's order."""
    total = sum(real(layer.get("multiply_adds")) or 0.0 for layer in layers)
    columns = ["layer", "type", "kernel", "weight", "input", "range of the input"]
    columns += ["multiply-adds", "SQNR alone", "SQNR in the model", "if only it is rounded"]
    rows = [_row(layer, total) for layer in layers if layer.get("quantized")]
    return Table(title="Quantized layers", columns=columns, rows=rows)


def left_in_float(layers: list[dict[str, Any]]) -> Table:
    """The layers that compute in float and why; folded ones are part of another."""
    rows = [
        [str(layer.get("name")), str(layer.get("type")), _reason(layer) or "-"]
        for layer in layers
        if not layer.get("quantized") and not _reason(layer).startswith(FOLDED)
    ]
    return Table(title="Layers left in float", columns=["layer", "type", "why"], rows=rows)


def sensitivity(layers: list[dict[str, Any]]) -> go.Figure | None:
    """What rounding each layer alone costs at the output; None where it was not measured."""
    found = {
        plain(layer.get("name")): value
        for layer in layers
        if (value := real(layer.get("sensitivity_db"))) is not None and math.isfinite(value)
    }
    if not found:
        return None
    figure = go.Figure()
    figure.add_bar(
        x=list(found.values()),
        y=list(found),
        orientation="h",
        marker_color=INT8_COLOUR,
        text=[f"{value:.0f}" for value in found.values()],
    )
    figure.update_layout(
        title="SQNR at the output if only one layer is rounded",
        xaxis={"title": "SQNR, dB (short bars are the layers to look at)", "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "type": "category"},
        height=max(260, 140 + 24 * len(found)),
    )
    return figure


def sqnr(layers: list[dict[str, Any]]) -> go.Figure | None:
    """SQNR of each quantized layer, alone and in the model; None where it was not measured."""
    names = [plain(layer.get("name")) for layer in layers if layer.get("quantized")]
    figure = go.Figure()
    for key, label, colour, symbol in (
        ("local_sqnr_db", "alone", FLOAT_COLOUR, "circle"),
        ("sqnr_db", "in the model", INT8_COLOUR, "square"),
    ):
        values = [real(layer.get(key)) for layer in layers if layer.get("quantized")]
        shown = [v if v is not None and math.isfinite(v) else None for v in values]
        if any(value is not None for value in shown):
            marker = {"color": colour, "symbol": symbol, "size": 10}
            figure.add_scatter(x=shown, y=names, name=label, mode="markers", marker=marker)
    if not figure.data:
        return None
    figure.update_layout(
        title="SQNR by layer (infinite ones are not drawn)",
        xaxis={"title": "SQNR, dB", "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "type": "category"},
        height=max(260, 140 + 24 * len(names)),
        legend={"y": 1, "yanchor": "bottom"},
    )
    return figure


def input_range(quantizer: object) -> tuple[float, float] | None:
    """The least and the greatest value that a per-tensor grid can hold; None of other grids."""
    scale, zero = real(lookup(quantizer, "scale")), real(lookup(quantizer, "zero_point"))
    bits, scheme = lookup(quantizer, "bits"), lookup(quantizer, "scheme")
    if scale is None or zero is None or not isinstance(bits, int) or not 1 < bits <= 16:
        return None
    # Inputs are unsigned, from 0, if the grid is affine, and signed around 0 if it is symmetric.
    least = -(2 ** (bits - 1)) if str(scheme).startswith("symmetric") and zero == 0 else 0
    return (least - zero) * scale, (least + 2**bits - 1 - zero) * scale


def _row(layer: dict[str, Any], total: float) -> list[Content]:
    adds = real(layer.get("multiply_adds"))
    bounds = input_range(layer.get("input"))
    return [
        str(layer.get("name")),
        str(layer.get("type")),
        _kernel(layer),
        _grid(layer.get("weight")),
        _grid(layer.get("input")),
        Cell(f"{bounds[0]:.3g} to {bounds[1]:.3g}", bounds[1]) if bounds else Cell("-"),
        number(100 * adds / total if adds is not None and total else None, ".1f", "%"),
        number(real(layer.get("local_sqnr_db")), ".1f", " dB"),
        number(real(layer.get("sqnr_db")), ".1f", " dB"),
        number(real(layer.get("sensitivity_db")), ".1f", " dB"),
    ]


def _kernel(layer: dict[str, Any]) -> str:
    why = layer.get("kernel_reason")
    return f"{layer.get('kernel') or '-'}{f': {why}' if why else ''}"


def _grid(quantizer: object) -> str:
    """How a tensor is rounded: ``8 bits, affine per tensor (MinMax)``."""
    if lookup(quantizer, "bits") is None:
        return "-"
    observer = lookup(quantizer, "observer")
    by = f" ({str(observer).removesuffix('Observer')})" if observer else ""
    return f"{lookup(quantizer, 'bits')} bits, {lookup(quantizer, 'scheme')}{by}"


def _reason(layer: dict[str, Any]) -> str:
    return str(layer.get("reason") or "")


def _sentence(record: dict[str, Any], layers: list[dict[str, Any]]) -> str:
    done = sum(bool(layer.get("quantized")) for layer in layers)
    folded = sum(_reason(layer).startswith(FOLDED) for layer in layers)
    share = real(record.get("int8_share"))
    output = real(record.get("output_sqnr_db"))
    parts = [f"{done} layers are quantized, {folded} more are folded into them"]
    if share is not None:
        parts.append(f"{share:.1%} of the multiply-adds run in int8")
    if output is not None:
        parts.append(f"the output's SQNR is {output:.1f} dB")
    return "; ".join(parts) + "."
