"""Draws images/model.svg, block.svg and attention.svg: `python docs/drawings.py`.

Values go down in blue, gradients come back up in orange. The names are those of the parameters in
`model.named_parameters()`. Each drawing is as wide as a phone, and is dark where the reader's
system is.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
WIDTH = 400
MIDDLE = 210  # of the column in which the boxes stand
STYLE = """
.card{fill:#fff} text{font:15px system-ui,sans-serif;fill:#1f2430;text-anchor:middle}
.name{font:600 14px ui-monospace,Menlo,Consolas,monospace} .small{font-size:13px;fill:#59606e}
.left{text-anchor:start} .right{text-anchor:end}
.box{fill:#eef2fb;stroke:#8c9bbd} .wide{fill:#f8f9fc;stroke:#b9c2d6;stroke-dasharray:5 4}
.on{fill:#7ea6f0} .off{fill:#e3e6ee} .line{fill:none;stroke-width:2}
.down{stroke:#1f5fd0} .up{stroke:#d9660a} .tip-down{fill:#1f5fd0} .tip-up{fill:#d9660a}
.t-down{fill:#1f5fd0} .t-up{fill:#b95406}
@media (prefers-color-scheme:dark){
.card{fill:#1b1e27} text{fill:#e8eaf0} .small{fill:#a9b0c0}
.box{fill:#2a3145;stroke:#66779f} .wide{fill:#212532;stroke:#4b556e}
.on{fill:#4f7fd6} .off{fill:#333949}
.down{stroke:#7aa8ff} .up{stroke:#ff9a4d} .tip-down{fill:#7aa8ff} .tip-up{fill:#ff9a4d}
.t-down{fill:#7aa8ff} .t-up{fill:#ff9a4d}}
""".replace("\n", "")


class Drawing:
    """Elements of an SVG, put one below the other."""

    def __init__(self, title: str) -> None:
        self.title, self.parts = title, list[str]()

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        """A line of text; its baseline is at y."""
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>')

    def box(self, y: float, name: str, note: str = "", x: float = MIDDLE, width: int = 220) -> None:
        """A layer: its name, and below it what it computes; 48 high."""
        left = x - width / 2
        self.parts.append(
            f'<rect class="box" x="{left:g}" y="{y:g}" width="{width}" height="48" rx="7"/>'
        )
        self.text(x, y + (20 if note else 29), name, "name")
        if note:
            self.text(x, y + 39, note, "small")

    def line(self, way: str, *points: tuple[float, float]) -> None:
        """A line through points with a tip at its end; ``way`` is "down" or "up"."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="line {way}" d="M{path}"/>')
        (x0, y0), (x, y) = points[-2:]
        if x == x0:
            back = -8 if y > y0 else 8
            tip = f"{x:g} {y:g} L{x - 5:g} {y + back:g} L{x + 5:g} {y + back:g}"
        else:
            back = -8 if x > x0 else 8
            tip = f"{x:g} {y:g} L{x + back:g} {y - 5:g} L{x + back:g} {y + 5:g}"
        self.parts.append(f'<path class="tip-{way}" d="M{tip}Z"/>')

    def both(self, y: float, to: float, value: str = "", gradient: str = "") -> None:
        """From a box down to the next: the value on the left, its gradient on the right."""
        self.line("down", (MIDDLE - 12, y), (MIDDLE - 12, to))
        self.line("up", (MIDDLE + 12, to), (MIDDLE + 12, y))
        middle = (y + to) / 2 + 5
        self.text(MIDDLE - 22, middle, value, "small right t-down")
        self.text(MIDDLE + 22, middle, gradient, "small left t-up")

    def plus(self, y: float) -> None:
        """A sum, its middle at y."""
        self.parts.append(f'<circle class="box" cx="{MIDDLE}" cy="{y:g}" r="13"/>')
        self.text(MIDDLE, y + 6, "+")

    def svg(self, height: int) -> str:
        """The whole file."""
        size = f'width="{WIDTH}" height="{height}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size}>',
                f"<title>{escape(self.title)}</title>",
                f"<style>{STYLE}</style>",
                f'<rect class="card" {size} rx="12"/>',
                *self.parts,
                "</svg>\n",
            ]
        )


def model() -> str:
    """From ids to the loss."""
    d = Drawing("A GPT: values from the ids down to the loss, gradients back up")
    d.text(20, 28, "forward", "left t-down")
    d.text(380, 28, "backward", "right t-up")
    d.text(MIDDLE, 28, "ids (B, T)", "name")
    d.line("down", (MIDDLE, 36), (MIDDLE, 50), (115, 50), (115, 66))
    d.line("down", (MIDDLE, 36), (MIDDLE, 50), (305, 50), (305, 66))
    d.box(66, "token_embedding", "row of each id (V, C)", 105, 180)
    d.box(66, "position_embedding", "row 0 .. T-1", 297, 180)
    for x, side in ((105, -13), (297, 13)):
        d.line("down", (x - 6, 114), (x - 6, 138), (MIDDLE + side, 138))
        d.line("up", (MIDDLE + side, 146), (x + 8, 146), (x + 8, 114))
    d.plus(142)
    d.both(155, 192, "x (B, T, C)", "dx")
    d.parts.append('<rect class="wide" x="62" y="192" width="296" height="168" rx="10"/>')
    d.text(346, 281, "n_layer", "small right")
    d.box(204, "blocks.0", "attention, feed-forward")
    d.both(252, 300, "(B, T, C)", "dx")
    d.box(300, "blocks.1 ...", "the same, with its own weights")
    d.both(348, 392, "(B, T, C)", "dx")
    d.box(392, "final_norm", "layer norm")
    d.both(440, 478, "(B, T, C)", "dx")
    d.box(478, "head", "token_embedding again (V, C)")
    d.both(526, 564, "logits (B, T, V)", "(p - onehot) / N")
    d.box(564, "cross-entropy", "against targets (B, T)")
    d.both(612, 644, "loss", "1")
    # Tied weights: the table gets gradients from both of its uses.
    d.line("up", (100, 502), (34, 502), (34, 114))
    for i, words in enumerate(("one table,", "two", "gradients")):
        d.text(20, 524 + 17 * i, words, "small left t-up")
    return d.svg(660)


def block() -> str:
    """One transformer block: two sums, and what is added."""
    d = Drawing("A transformer block: norm, attention, sum; norm, feed-forward, sum")
    d.text(MIDDLE, 28, "x (B, T, C)", "name")
    y, rows = (
        36.0,
        (
            [("norm1", "layer norm"), ("attention", "qkv, heads, projection")],
            [
                ("norm2", "layer norm"),
                ("feed_forward.expand", "C to 4C"),
                ("gelu", "each number by itself"),
                ("feed_forward.project", "4C to C"),
            ],
        ),
    )
    for layers, result in zip(rows, ("s", "y"), strict=True):
        top = y
        for i, (name, note) in enumerate(layers):
            wide = i > 1
            d.both(y, y + 30, "(B, T, 4C)" if wide else "", "")
            d.box(y + 30, name, note)
            y += 78
        d.both(y, y + 28, "(B, T, C)", f"d{result}")
        d.text(54, (top + y) / 2 + 30, "as it is", "small left")
        d.line("down", (MIDDLE - 12, top + 8), (46, top + 8), (46, y + 41), (MIDDLE - 14, y + 41))
        d.line("up", (MIDDLE - 14, y + 49), (30, y + 49), (30, top + 16), (MIDDLE + 10, top + 16))
        d.plus(y + 41)
        y += 54
    d.both(y, y + 34, "y (B, T, C)", "dy")
    d.text(MIDDLE, y + 54, "the next block, or final_norm", "small")
    return d.svg(int(y) + 70)


def mask(d: Drawing, x: float, y: float) -> None:
    """The causal mask of six positions."""
    for row in range(6):
        for column in range(6):
            kind = "on" if column <= row else "off"
            d.parts.append(
                f'<rect class="{kind}" x="{x + 13 * column:g}" y="{y + 13 * row:g}" '
                'width="11" height="11" rx="2"/>'
            )


def attention() -> str:
    """Multi-head attention with its mask."""
    d = Drawing("Multi-head attention: scores, mask, softmax, and the mean of the values")
    d.text(MIDDLE, 28, "norm1(x) (B, T, C)", "name")
    d.both(36, 68)
    d.box(68, "attention.qkv", "linear, C to 3C")
    for x, letter in ((100, "q"), (210, "k"), (320, "v")):
        d.line("down", (x - 8, 116), (x - 8, 150))
        d.line("up", (x + 8, 150), (x + 8, 116))
        d.box(150, letter, "(B, H, T, D)", x, 100)
    d.text(20, 84, "H heads", "small left")
    d.text(20, 101, "at once", "small left")
    for x in (100, 210):
        d.line("down", (x + 22, 198), (x + 22, 232))
        d.line("up", (x + 38, 232), (x + 38, 198))
    d.box(232, "scores", "q k^T / sqrt D (B, H, T, T)")
    d.both(280, 310, "", "dscores")
    d.box(310, "causal mask", "-inf for what is later")
    mask(d, 12, 296)
    d.both(358, 388, "", "dscores")
    d.box(388, "softmax", "each row sums to 1")
    d.both(436, 466, "probs", "dprobs")
    d.box(466, "probs v", "(B, H, T, D)")
    d.line("down", (342, 198), (342, 486), (320, 486))
    d.line("up", (320, 496), (358, 496), (358, 198))
    d.text(366, 340, "dv", "small left t-up")
    d.both(514, 544, "y", "dy")
    d.box(544, "heads side by side", "(B, T, C)")
    d.both(592, 622)
    d.box(622, "attention.projection", "linear, C to C")
    d.both(670, 702, "(B, T, C)", "ds")
    d.text(MIDDLE, 722, "added to x", "small")
    return d.svg(738)


def draw() -> dict[str, str]:
    """The text of each file."""
    return {"model.svg": model(), "block.svg": block(), "attention.svg": attention()}


if __name__ == "__main__":
    for file, text in draw().items():
        (IMAGES / file).write_text(text, encoding="utf-8")
