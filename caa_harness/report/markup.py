"""Markup: texts and numbers in, HTML that cannot be broken by them out.

An element is made of children; a child that is not markup already is escaped, so
that no text of a spec or of a model can become an element or leave an attribute.
What comes out is ASCII.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VOID = frozenset({"br", "circle", "line", "meta", "path", "polygon", "polyline", "rect"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


Child = str | Markup | None


def escaped(text: str) -> Markup:
    r"""Turn a text into markup: characters of HTML and of no script become references.

    Examples
    --------
    >>> escaped('<script>"x" & \x00')
    '&lt;script&gt;&quot;x&quot; &amp; &#65533;'
    """
    if isinstance(text, Markup):
        return text
    shown = html.escape(_CONTROL.sub("\ufffd", text), quote=True)
    return Markup(shown.encode("ascii", "xmlcharrefreplace").decode("ascii"))


def joined(*children: Child, by: str = "") -> Markup:
    """Put children after one another, leaving out those that are ``None``."""
    return Markup(escaped(by).join(escaped(child) for child in children if child is not None))


def element(
    tag: str,
    *children: Child,
    attributes: dict[str, str] | None = None,
    **named: str | float | bool | None,
) -> Markup:
    """Make an element; ``class_`` is ``class``, ``aria_label`` is ``aria-label``.

    An attribute that is ``None`` or false is left out; one that is true has no value.

    Examples
    --------
    >>> element("a", "1 < 2", href="#x", class_="back", hidden=None)
    '<a href="#x" class="back">1 &lt; 2</a>'
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in named.items()}
    given |= attributes or {}
    words = [tag]
    for name, value in given.items():
        if value is None or value is False:
            continue
        words.append(name if value is True else f'{name}="{escaped(str(value))}"')
    opened = f"<{' '.join(words)}>"
    if tag in VOID:
        assert not children, tag
        return Markup(opened if tag in ("br", "meta") else f"{opened[:-1]}/>")
    return Markup(f"{opened}{joined(*children)}</{tag}>")


def table(
    caption: Child,
    columns: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    *,
    class_: str = "",
    numeric: Sequence[int] = (),
    labels: Sequence[str] | None = None,
) -> Markup:
    """Make a table whose first column heads its rows.

    On a narrow screen a row becomes a block, each cell under its column's name; the
    roles keep it a table for assistive technology there.

    Parameters
    ----------
    caption : str
        What the table shows.
    columns, rows
        The columns' heads, and as many cells in each row.
    numeric : sequence of int
        Columns whose cells are numbers.
    class_ : str
        The table's class.
    labels : sequence of str, optional
        The columns' names in a narrow row; else their heads.
    """
    names = [str(column or "") for column in columns] if labels is None else labels
    kinds = ["num" if place in numeric else None for place in range(len(columns))]
    head = [
        element("th", column, scope="col", role="columnheader", class_=kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    body = []
    for row in rows:
        cells = [
            element(
                "td" if place else "th",
                element("div", cell) if place else cell,
                scope=None if place else "row",
                role="cell" if place else "rowheader",
                class_=kind,
                data_label=name if place else None,
            )
            for place, (cell, kind, name) in enumerate(zip(row, kinds, names, strict=True))
        ]
        body.append(element("tr", *cells, role="row"))
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
        class_=class_ or None,
    )


def details(summary: Child, *children: Child, is_open: bool = False, class_: str = "") -> Markup:
    """Make a part that opens and closes, without a script."""
    return element(
        "details", element("summary", summary), *children, open=is_open, class_=class_ or None
    )
