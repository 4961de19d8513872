"""A formula in the letters of the code, read and written as MathML, which browsers show.

What a line may hold: names (`xhat`, `dx`, `W`), indices (`x_ij`, `x_(i+1)`, `A[i, k]`), powers
(`e^-x`), fractions (`a / b`), `sqrt(...)`, `sum over i of`, `mean over k of`, `sum_i`, relations,
brackets, and words, which may have a hyphen (`log-ratio`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)|(?P<name>[a-z]{3,}-[a-z]{3,}|[A-Za-z]+\d*)|(?P<prime>')"
    r"|(?P<sign>->|<=|>=|!=|\+=|-=|\.\.\.|[-+*/=<>^_()\[\]{},;:|])"
)
GREEK = {"pi": "π", "eps": "ε", "delta": "δ", "beta": "β", "theta": "θ", "sigma": "σ", "inf": "∞"}
HATS = {"xhat": "x"}
# Names that are read as one. Other words of several letters are text.
NAMES = frozenset(
    "abs bias bool clip cos count delta e eps erf exp floor gelu high ids index inf layer_norm lr "
    "ln log logits logsum loss low mask max mean min norm onehot out probs rate relu residual "
    "rstd scale scores sigmoid sign silu sin size slope softmax sqrt src std sum tanh trace update "
    "value var weight".split()
)
SIGNS = {"->": "→", "<=": "≤", ">=": "≥", "!=": "≠", "-": "−", "*": "·", "...": "…"}
CLOSING = {"(": ")", "[": "]", "{": "}"}
GAP = '<mspace width="0.2em"/>'
DIFFERENTIAL = ('<mrow><mi mathvariant="normal">d<', '<msub><mrow><mi mathvariant="normal">d<')
ENDS = ("+", "-", "*", "/", "=", "<", ">", ",", ";", ":", "|", ")", "]", "}", "->")
TALL = re.compile("<mfrac|<munder|<msqrt")
Token = tuple[str, str, bool]  # kind, text, whether a space stands before it


def tokens(line: str) -> list[Token]:
    """The tokens of a formula; raises ValueError at what is none."""
    found: list[Token] = []
    end = 0
    for match in TOKEN.finditer(line):
        between = line[end : match.start()]
        if between.strip():
            raise ValueError(f"no formula: {between.strip()!r}")
        found.append((str(match.lastgroup), match[0], bool(between) or not found))
        end = match.end()
    if line[end:].strip():
        raise ValueError(f"no formula: {line[end:].strip()!r}")
    return found


def name(text: str) -> str | None:
    """MathML of a name, or None for a word."""
    letters = text.rstrip("0123456789")
    if letters != text:
        inner = name(letters)
        return inner and f"<msub>{inner}<mn>{text[len(letters) :]}</mn></msub>"
    if text in HATS:
        return f'<mover accent="true"><mi>{HATS[text]}</mi><mo stretchy="false">^</mo></mover>'
    if text in GREEK:
        return f"<mi>{GREEK[text]}</mi>"
    if len(text) == 1 or text in NAMES or text.isupper():
        return f"<mi>{text}</mi>"
    if text[0] == "d" and (inner := name(text[1:])):  # dx, dweight, dxhat: a gradient
        return f'<mrow><mi mathvariant="normal">d</mi>{inner}</mrow>'
    return None


class Formula:
    """Reads the tokens of one formula, and writes MathML."""

    def __init__(self, line: str) -> None:
        self.tokens = tokens(line)
        self.at = 0
        self.flat = False  # in powers and under roots a fraction stays in its line

    def peek(self, *signs: str, near: bool = False) -> bool:
        """Whether one of the signs is next; with ``near``, without a space before it."""
        if self.at == len(self.tokens):
            return False
        kind, text, spaced = self.tokens[self.at]
        return kind in ("sign", "prime") and text in signs and not (near and spaced)

    def is_word(self, word: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][1] == word

    def next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def row(self, *closing: str) -> str:
        """Everything up to a closing bracket, the word ``of``, or the end."""
        parts: list[str] = []
        product: list[str] = []  # factors that stand side by side: a bar after them takes all
        while self.at < len(self.tokens) and not self.peek(*closing):
            if "of" in closing and self.is_word("of"):
                break
            kind, text, _ = self.tokens[self.at]
            if text == "/" and product and not self.flat:
                self.next()
                product = self.quotient(product, self.below())
            elif text == "^" and parts and not product:  # behind a bar: |x|^2
                self.next()
                parts[-1] = f"<msup>{parts[-1]}{self.exponent()}</msup>"
            elif kind == "sign" and text not in CLOSING:
                self.next()
                stretchy = ' stretchy="false"' if text in ")]|" else ""
                parts += [GAP.join(product), f"<mo{stretchy}>{escape(SIGNS.get(text, text))}</mo>"]
                product = []
            else:
                product.append(self.factor())
        return "".join([*parts, GAP.join(product)])

    def quotient(self, product: list[str], below: str) -> list[str]:
        """``a b / c`` is a b over c; ``a dy / dx`` is a times the derivative."""
        kept = product[:-1] if below.startswith(DIFFERENTIAL) else []
        above = product[len(kept) :]
        top = bare(above[0]) if len(above) == 1 else f"<mrow>{GAP.join(above)}</mrow>"
        return [*kept, f"<mfrac>{top}{bare(below)}</mfrac>"]

    def below(self) -> str:
        """What stands below a bar: a factor, and after a sum all that is summed."""
        is_sum = self.is_word("sum")
        parts = [self.factor()]
        while is_sum and self.at < len(self.tokens) and self.tokens[self.at][1] not in ENDS:
            parts.append(self.factor())
        return parts[0] if len(parts) == 1 else f"<mrow>{GAP.join(parts)}</mrow>"

    def factor(self) -> str:
        """A name, number or bracket with its indices, powers and arguments."""
        kind, text, _ = self.tokens[self.at]
        if text in ("sum", "mean", "max") and kind == "name":
            return self.over()
        if text == "sqrt":
            self.next()
            return f"<msqrt>{self.in_line(self.factor)}</msqrt>"
        base = self.atom()
        called = kind == "name"
        while True:
            if self.peek("'", near=True):
                self.next()
                base = f'<mrow>{base}<mo lspace="0" rspace="0">′</mo></mrow>'
            elif self.peek("_", near=True):
                self.next()
                base = f"<msub>{base}{self.index()}</msub>"
            elif self.peek("^", near=True):
                self.next()
                base = f"<msup>{base}{self.exponent()}</msup>"
            elif called and self.peek("[", near=True):
                if base.startswith("<mtext>"):
                    raise ValueError(f"{text} has an index and is no known name")
                self.next()
                base = f"<msub>{base}<mrow>{self.row(']')}</mrow></msub>"
                self.close("]")
            elif called and self.peek("(", near=True):
                base = f"<mrow>{base}{self.atom()}</mrow>"
            else:
                return base

    def over(self) -> str:
        """``sum over i of``, ``sum_i``, ``mean over k of``: the sign with what it runs over."""
        text = self.next()[1]
        sign = '<mo largeop="true">∑</mo>' if text == "sum" else f"<mi>{text}</mi>"
        below = ""
        if self.is_word("over"):
            self.next()
            below = f"<mrow>{self.row('of', ',')}</mrow>"
        elif self.peek("_", near=True):
            self.next()
            below = self.index()
        elif text != "sum" and self.peek("(", near=True):
            return f"<mrow>{sign}{self.atom()}</mrow>"
        if self.is_word("of"):
            self.next()
        tag = "msub" if self.flat else "munder"
        return f"<{tag}>{sign}{below}</{tag}>" if below else sign

    def index(self) -> str:
        """What stands below: ``i``, ``ij``, ``(i+1)``, ``{i >= j}``."""
        if self.peek("(", "{"):
            closing = CLOSING[self.next()[1]]
            inner = self.row(closing)
            self.close(closing)
            return f"<mrow>{inner}</mrow>"
        kind, text, _ = self.next()
        if kind == "name":
            return f"<mrow>{''.join(f'<mi>{letter}</mi>' for letter in text)}</mrow>"
        return f"<mn>{text}</mn>"

    def exponent(self) -> str:
        if self.peek("-"):
            self.next()
            return f"<mrow><mo>−</mo>{self.atom()}</mrow>"
        return self.in_line(self.atom)

    def in_line(self, read: Callable[[], str]) -> str:
        """What ``read`` finds, its fractions written with a stroke."""
        before, self.flat = self.flat, True
        inner = bare(read())
        self.flat = before
        return inner

    def atom(self) -> str:
        """A name, a number, a word, or what stands in brackets."""
        if self.at == len(self.tokens):
            raise ValueError("the formula ends where something should follow")
        kind, text, _ = self.next()
        if kind == "number":
            return f"<mn>{text}</mn>"
        if kind == "name":
            return name(text) or f"<mtext>{text}</mtext>"
        if text in CLOSING:
            inner = self.row(CLOSING[text])
            if not self.peek(CLOSING[text]):  # closed in another line, or never
                return f'<mo stretchy="false">{text}</mo>{inner}'
            self.next()
            size = "" if TALL.search(inner) else ' stretchy="false"'
            return f"<mrow><mo{size}>{text}</mo>{inner}<mo{size}>{CLOSING[text]}</mo></mrow>"
        raise ValueError(f"{text!r} begins no factor")

    def close(self, sign: str) -> None:
        if not self.peek(sign):
            raise ValueError(f"no {sign!r}")
        self.next()


def bare(factor: str) -> str:
    """A factor without the round brackets around it: a bar or a root holds it together."""
    inner = re.fullmatch(r"<mrow><mo[^>]*>\(</mo>(.*)<mo[^>]*>\)</mo></mrow>", factor)
    return f"<mrow>{inner[1]}</mrow>" if inner and _is_balanced(inner[1]) else factor


def _is_balanced(inner: str) -> bool:
    """Whether brackets close in order: ``(a) b (c)`` begins and ends with one, and is none."""
    depth = 0
    for sign in re.findall(r"<mo[^>]*>([()])</mo>", inner):
        depth += 1 if sign == "(" else -1
        if depth < 0:
            return False
    return depth == 0


def mathml(line: str, display: bool = True) -> str:
    """MathML of one formula; raises ValueError where it is none.

    ``display`` makes room for it, as in a line of its own.
    """
    angles = re.sub(r"<([^<>=]+,[^<>=]+)>", r"⟨\1⟩", line)
    parts = []
    for part in re.split(r"([⟨⟩])", angles):
        if part in ("⟨", "⟩"):
            parts.append(f'<mo stretchy="false">{part}</mo>')
        elif part.strip():
            formula = Formula(part)
            parts.append(formula.row())
    style = ' displaystyle="true"' if display else ""
    return f"<math{style}><mrow>{''.join(parts)}</mrow></math>"
