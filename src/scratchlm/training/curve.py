"""The loss curve of a run as a picture: plain SVG, which browsers show and README pages embed."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 800, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 44, 52
TRAIN, VALIDATION, GRID, TEXT = "#9ecae1", "#08519c", "#e5e5e5", "#444444"
SMOOTHED_OVER = 50  # parts of the run: batches differ so much that the raw line is a band

Point = tuple[float, float]


def draw_loss_curve(metrics: Sequence[dict[str, Any]], title: str) -> str:
    """Training and held-out loss over steps, both in nats per token.

    metrics  lines of `read_metrics`
    returns  an SVG document
    """
    train = _smoothed([(m["step"], m["loss_nats"]) for m in metrics if "loss_nats" in m])
    held_out = [(m["step"], m["val_loss_nats"]) for m in metrics if "val_loss_nats" in m]
    points = train + held_out
    steps = [x for x, _ in points] or [0.0, 1.0]
    losses = [y for _, y in points] or [0.0, 1.0]
    plot = _Plot(max(steps), min(losses), max(losses))
    parts = [plot.grid(), plot.line(train, TRAIN, 2), plot.line(held_out, VALIDATION, 2.5)]
    parts += [plot.dot(point, VALIDATION) for point in held_out]
    if held_out:
        step, best = min(held_out, key=lambda point: point[1])
        parts.append(plot.label((step, best), f"{best:.3f}"))
    return _document(title, parts)


def _smoothed(points: list[Point]) -> list[Point]:
    """The mean of each of about SMOOTHED_OVER neighbouring groups."""
    size = max(1, len(points) // SMOOTHED_OVER)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(g[len(g) // 2][0], sum(y for _, y in g) / len(g)) for g in groups]


class _Plot:
    """Steps and nats to places on the page."""

    def __init__(self, last_step: float, low: float, high: float) -> None:
        self.x_step = _round_step(max(last_step, 1) / 5)
        self.y_step = _round_step(max(high - low, 0.1) / 5)
        self.last_step = max(last_step, 1)
        self.low = math.floor(low / self.y_step) * self.y_step
        self.high = math.ceil(high / self.y_step + 1e-9) * self.y_step

    def x(self, step: float) -> float:
        return LEFT + step / self.last_step * (WIDTH - LEFT - RIGHT)

    def y(self, nats: float) -> float:
        share = (nats - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> str:
        parts = []
        for i in range(round((self.high - self.low) / self.y_step) + 1):
            nats = self.low + i * self.y_step
            y = self.y(nats)
            parts.append(
                f'<path d="M {LEFT} {y:.1f} H {WIDTH - RIGHT}" stroke="{GRID}"/>'
                f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{nats:.4g}</text>'
            )
        for i in range(int(self.last_step / self.x_step) + 1):
            x = self.x(i * self.x_step)
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">'
                f"{i * self.x_step:,.0f}</text>"
            )
        return "\n".join(parts)

    def line(self, points: list[Point], colour: str, width: float) -> str:
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    def dot(self, point: Point, colour: str) -> str:
        x, y = self.x(point[0]), self.y(point[1])
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'

    def label(self, point: Point, text: str) -> str:
        x, y = self.x(point[0]), self.y(point[1]) - 10
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="end" fill="{VALIDATION}">{text}</text>'


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `least`."""
    power = 10 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _document(title: str, parts: list[str]) -> str:
    legend = (
        f'<text x="{WIDTH - RIGHT}" y="28" text-anchor="end">'
        f'<tspan fill="{TRAIN}">training</tspan> and <tspan fill="{VALIDATION}">held-out</tspan>'
        " loss, nats per token</text>"
    )
    axis = f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">steps</text>'
    body = "\n".join([*parts, legend, axis])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13" fill="{TEXT}">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f'<text x="{LEFT}" y="28" font-weight="bold">{escape(title)}</text>\n{body}\n</svg>\n'
    )
