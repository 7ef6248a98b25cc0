"""Figures of a report as drawings inside a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.report.content import Picture

LARGER = 1.4  # pixels a point: letters of figures then are as high as those of the page
_COORDINATES = ("d", "x", "y", "width", "height")
_LONG = re.compile(r"-?\d+\.\d{3,}")  # a coordinate more exact than a hundredth of a point
_USED = re.compile(r"(?:^|url\()#([^)]+)")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def pixels(picture: Picture) -> int:
    """Return the width in pixels that the figure has where there is room for it."""
    return round(LARGER * float(ElementTree.fromstring(picture.svg).attrib["viewBox"].split()[2]))


def inline_svg(picture: Picture) -> str:
    """Return the figure as an `svg` element for HTML: with a title for those who do not see it, as wide as it has room.

    Names inside it begin with the figure's, since those of all drawings in a page are one set; those that nothing
    refers to, comments and white space are left out, which are almost a third of it. Coordinates are told to a
    hundredth of a point.
    """
    root = ElementTree.fromstring(picture.svg)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.endswith("}metadata")]:
            parent.remove(child)
    used = {name for element in root.iter() for value in element.attrib.values() for name in _USED.findall(value)}
    for element in root.iter():
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
        element.tag = element.tag.rpartition("}")[2]  # in HTML the svg element itself says what its parts are
        element.attrib = {
            name.rpartition("}")[2]: _own(picture.name, name.rpartition("}")[2], value)
            for name, value in element.attrib.items()
            if name != "id" or value in used
        }
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {
        "role": "img",
        "aria-labelledby": f"{picture.name}-title",
    }
    title = ElementTree.Element("title", {"id": f"{picture.name}-title"})
    title.text = picture.caption
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _own(prefix: str, attribute: str, value: str) -> str:
    if attribute in _COORDINATES:
        return _LONG.sub(lambda found: f"{float(found[0]):.2f}", " ".join(value.split()))
    if attribute == "id":
        return f"{prefix}-{value}"
    if attribute == "href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return _REFERENCE.sub(rf"url(#{prefix}-\1)", value)
