"""How every figure looks, in light and in dark, to every eye, and on paper without colour."""

import html
from typing import Any

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
"""Okabe and Ito's colours, told apart with any colour vision; their yellow and black are left out,
which one of the two backgrounds swallows. https://jfly.uni-koeln.de/color/
"""

FLOAT_COLOUR, INT8_COLOUR, *_, NEUTRAL = OKABE_ITO

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star")


def plain(text: object) -> str:
    """A text as plotly shows it letter by letter: plotly reads ``<b>`` and entities in any text."""
    return html.escape(str(text), quote=False)


def templates() -> dict[str, dict[str, Any]]:
    """Plotly's templates of both themes: a figure takes one when it is drawn, not when it is made.

    A figure's first scatter trace has the first colour, dash and marker, its second the second.
    """
    return {
        "light": _template(ink="#1d2126", faint="#dfe3e8", scale=("#FFFFFF", "#0072B2")),
        "dark": _template(ink="#e4e7eb", faint="#3a4048", scale=("#16191d", "#56B4E9")),
    }


def _template(*, ink: str, faint: str, scale: tuple[str, str]) -> dict[str, Any]:
    colorscale = [[0.0, scale[0]], [1.0, scale[1]]]
    axis = {
        "gridcolor": faint,
        "linecolor": faint,
        "zerolinecolor": faint,
        "automargin": True,
        "title": {"standoff": 8},
    }
    styles = zip(OKABE_ITO, DASHES, SYMBOLS, strict=True)
    return {
        "layout": {
            "colorway": OKABE_ITO,
            "colorscale": {"sequential": colorscale},
            "font": {"color": ink, "family": "system-ui, sans-serif", "size": 13},
            "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 15}},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 50, "r": 16, "t": 40, "b": 44},
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#8a939d", "activecolor": ink},
            "hoverlabel": {"align": "left"},
            "hovermode": "closest",
            "xaxis": axis,
            "yaxis": axis,
        },
        "data": {
            "scatter": [
                {
                    "line": {"color": colour, "dash": dash, "width": 2},
                    "marker": {"color": colour, "symbol": symbol, "size": 7},
                }
                for colour, dash, symbol in styles
            ],
            "heatmap": [{"colorscale": colorscale, "colorbar": {"outlinewidth": 0}}],
        },
    }
