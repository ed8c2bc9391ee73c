"""The pictures of the README are those that the program draws now."""

import pytest

from tests.screenshots import FOLDER, PICTURES, Picture


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_current(picture: Picture, tmp_path, plain_environment) -> None:
    drawn = picture.draw(tmp_path).read_text("utf-8")
    kept = (FOLDER / f"{picture.name}.svg").read_text("utf-8")
    current = drawn == kept
    assert current, "the program draws another picture now; look at it, and run python -m tests.screenshots"


def test_the_readme_shows_every_picture() -> None:
    readme = (FOLDER.parent / "README.md").read_text("utf-8")
    assert [p.name for p in PICTURES if f"screenshots/{p.name}.svg" not in readme] == []
