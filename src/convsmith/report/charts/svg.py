"""SVG elements as escaped markup. Colours come from the page's style sheet, so that a chart follows light and dark."""

from __future__ import annotations

from markupsafe import Markup, escape

TEXT_PX = 11.5
GLYPH_PX = 6.8  # mean width of a letter at that size


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value != round(value) else str(round(value))


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """Return ``<name attributes>children</name>``; ``class_`` is class, ``_`` in a name is a dash, None leaves an attribute out."""
    text = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), number(value) if isinstance(value, float) else str(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), text, Markup("").join(escape(child) for child in children))


def canvas(width: float, height: float, *children: str, label: str, class_: str = "chart") -> Markup:
    """Return a whole picture: ``label`` is what a reader who cannot see it is told."""
    return element(
        "svg",
        *children,
        class_=class_,
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=number(width),
        height=number(height),
        role="img",
        aria_label=label,
    )


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str | None = None, **attributes: object) -> Markup:
    """Return a line of text whose baseline starts, is centred or ends at ``x, y``."""
    return element("text", content, x=float(x), y=float(y), text_anchor=None if anchor == "start" else anchor, class_=class_, **attributes)


def shorten(label: str, letters: int) -> str:
    """Return ``label`` cut to ``letters`` with an ellipsis, on one line."""
    flat = " ".join(label.split())
    return flat if len(flat) <= letters else flat[: max(1, letters - 1)] + "…"
