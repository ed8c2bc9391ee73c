"""The pictures in the README and the manual equal those that the program draws now."""

import re
from dataclasses import replace

import pytest

from tests.pages import MANUAL
from tests.screenshots import FOLDER, PICTURES, TOPICS, TOPICS_OF_THE_MANUAL, TRAINED, Picture

EXACT = [
    p
    for p in PICTURES
    if not p.rounded and TRAINED not in p.keys and (TOPICS_OF_THE_MANUAL or p.options.get("text") != TOPICS["text"])
]


@pytest.mark.parametrize("picture", EXACT, ids=lambda picture: picture.name)
def test_a_picture_is_current(picture: Picture, tmp_path, plain_environment) -> None:
    drawn = picture.draw(tmp_path).read_text("utf-8")
    kept = (FOLDER / f"{picture.name}.svg").read_text("utf-8")
    current = drawn == kept
    assert current, "the program draws another picture now; look at it, and run python -m tests.screenshots"


def listing(svg: str) -> list[str]:
    """Return the text of the listing panel, without its border, below which are the samples, and without the counters of its loops:
    the rest does not depend on any number."""
    texts = re.findall(r'<text[^>]*? x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', svg)
    shown = [text for x, y, text in texts if float(x) < 560 and 40 < float(y) < 1100]
    inside = shown[: shown.index("╰")] if "╰" in shown else shown
    return [text for text in inside if not re.search(r"^(?:epoch|batch|t)&#160;\d+$|^[│─╭╮]+$", text)]


@pytest.mark.parametrize("picture", [p for p in PICTURES if p.rounded], ids=lambda picture: picture.name)
def test_a_picture_with_rounding_errors_has_the_listing_of_now(picture: Picture, tmp_path, plain_environment) -> None:
    kept = listing((FOLDER / f"{picture.name}.svg").read_text("utf-8"))
    assert len(kept) > 20
    assert listing(picture.draw(tmp_path).read_text("utf-8")) == kept


def test_the_picture_of_the_text_has_the_listing_of_now(tmp_path, plain_environment) -> None:
    (picture,) = [p for p in PICTURES if TRAINED in p.keys]
    drawn = replace(picture, keys=picture.keys.replace(TRAINED, "n")).draw(tmp_path).read_text("utf-8")
    kept = listing((FOLDER / f"{picture.name}.svg").read_text("utf-8"))
    assert len(kept) > 40
    assert listing(drawn) == kept


def test_the_manual_shows_every_picture() -> None:
    pages = "".join(MANUAL.values())
    assert [p.name for p in PICTURES if f"](../../screenshots/{p.name}.svg)" not in pages] == []
