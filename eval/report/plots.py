"""Plots as inline SVG whose colours come from the page, so that they follow light and dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

# Drawn in stand-in colours; the page's CSS says what they are.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040404": "var(--tuned)",
    "#050505": "var(--base)",
}
LABEL = 28
INK, MUTED, LINE, TUNED, BASE = _COLOURS

Series = tuple[str, str, Sequence[tuple[float, float]]]  # (label, colour, [(x, y)])
Bars = tuple[str, str, dict[str, dict[str, Any]]]  # (label, colour, category -> record.share)


def curves(
    name: str,
    series: Sequence[Series],
    *,
    xlabel: str,
    ylabel: str,
    mark: int | None = None,
    title: str = "Loss over optimizer steps",
) -> str:
    """Lines over steps; `mark` draws where the kept weights are from. `name` is unique on its
    page."""
    figure, axes = _figure(7.2, 3.2)
    for label, colour, points in series:
        if points:
            xs, ys = zip(*points, strict=True)
            few = len(points) <= 40
            axes.plot(
                xs, ys, color=colour, label=label, lw=1.8, marker="o" if few else None, ms=3.5
            )
    if mark is not None:
        axes.axvline(mark, color=MUTED, lw=1, ls=(0, (3, 3)), label=f"kept: step {mark}")
    values = [y for _, _, points in series for _, y in points]
    above = [y for y in values if y > 0]
    if above and min(values) >= 0 and max(above) / min(above) > 30:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min([0.0, *values]))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    _legend(axes)
    return _svg(figure, name, title)


def categories(name: str, bars: Sequence[Bars], names: Sequence[str], target: float | None) -> str:
    """Accuracy a category with Wilson intervals: one row a category, one mark an arm."""
    figure, axes = _figure(7.2, 0.9 + 0.22 * len(names) * (len(bars) + 0.7))
    step = 1 / (len(bars) + 0.7)
    for at, (label, colour, shares) in enumerate(bars):
        for row, category in enumerate(names):
            share = shares[category]
            y = row + (at - (len(bars) - 1) / 2) * step
            low, high = share["interval"]
            axes.plot([100 * low, 100 * high], [y, y], color=colour, lw=4, alpha=0.3,
                      solid_capstyle="round")  # fmt: skip
            axes.plot(100 * share["accuracy"], y, "o", color=colour, ms=5.5,
                      label=label if row == 0 else None)  # fmt: skip
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color=LINE, lw=0.6)
    if target is not None:
        axes.axvline(100 * target, color=MUTED, lw=1, ls=(0, (3, 3)), label=f"target {target:.0%}")
    # A dollar sign in a user's category would start a formula.
    axes.set_yticks(range(len(names)), [_short(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("right answers, % (bar: 95 % Wilson interval)")
    axes.grid(axis="y", visible=False)
    _legend(axes, outside=True)
    return _svg(figure, name, "Accuracy by category")


def _short(name: str) -> str:
    """A category's label; a user's own can be of any length, and the plot must keep some room."""
    name = name.replace("_", " ").replace("\n", " ")
    return name if len(name) <= LABEL else name[: LABEL - 3] + "..."


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_color(LINE)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=0)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.grid(color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Any, *, outside: bool = False) -> None:
    place: dict[str, Any] = (
        {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4} if outside else {}
    )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, **place)


def _svg(figure: Any, name: str, label: str) -> str:
    """The figure as an <svg> element without ids that another plot on the page could share;
    `label` is read to those who cannot see it."""
    import matplotlib

    text = io.StringIO()
    # Text stays text (searchable, in the page's font), and the same data give the same bytes.
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Other scripts and emoji: the reader's browser has glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    opening = rf'<svg class="plot" role="img" aria-label="{label}" viewBox="\g<1>">'
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', opening, svg, count=1)
    for stand_in, variable in _COLOURS.items():
        svg = svg.replace(stand_in, variable)
    # The page sets the font; matplotlib's global style rule would reach beyond the plot.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    return re.sub(r" font-family: [^;\"]*;", "", svg).strip()
