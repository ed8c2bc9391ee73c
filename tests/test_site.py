"""The site: its links lead to what is there, its pictures are drawn, and its pages fit a desktop and a telephone."""

import re

import pytest

from tests import site
from tests.chromium import Chromium

LESSONS = site.LESSONS[:2]  # each is tried in tests/tui/test_lesson_page.py
LINKS = re.compile(r'(?:href|src)="([^"]*)"')


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    return folder, site.Site(folder, LESSONS).write()


def test_every_page_of_the_manual_is_a_page(built):
    folder, pages = built
    assert set(pages) == {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")} - {
        path.relative_to(folder).as_posix() for path in (folder / "walks").glob("*")
    }
    assert {f"manual/{path.stem}.html" for path in site.MANUAL.glob("*.md")} <= set(pages)
    assert {f"lessons/{path.stem}.html" for path in LESSONS} <= set(pages)


def test_links_lead_to_files_and_headings(built):
    folder, pages = built
    for page in pages:
        text = (folder / page).read_text(encoding="utf-8")
        if page.startswith("lessons/"):
            continue  # one file, without links
        for target in LINKS.findall(text):
            if target.startswith(("https:", "data:")):
                continue
            name, _, anchor = target.partition("#")
            file = (folder / page).parent / name if name else folder / page
            assert file.is_file(), (page, target)
            assert not anchor or f'id="{anchor}"' in file.read_text(encoding="utf-8"), (page, target)


def test_heads_have_a_title_a_description_and_the_width_of_the_device(built):
    folder, pages = built
    titles = []
    for page in pages:
        head = (folder / page).read_text(encoding="utf-8").partition("</head>")[0]
        assert '<meta charset="utf-8">' in head
        assert 'name="viewport"' in head
        titles += re.findall(r"<title>(.+)</title>", head)
    assert len(set(titles)) == len(pages)


def test_a_link_to_what_is_not_on_the_site_is_refused():
    with pytest.raises(ValueError, match=r"README.md links to nowhere.md"):
        site.Site(site.ROOT).address("nowhere.md", site.README, "index.html")


def test_pages_fit_a_desktop_and_a_telephone_and_draw_their_pictures(built):
    folder, pages = built
    browser = Chromium()
    try:
        for width, height, phone in ((1360, 860, False), (390, 800, True)):
            browser.resize(width, height, phone=phone)
            for page in [page for page in pages if not page.startswith("lessons/")]:
                browser.open(f"file://{folder / page}", "true")
                assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (page, width)
                assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), page
        assert not [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
        asked = [event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
        assert all(address.startswith(("file:", "data:")) for address in asked)
    finally:
        browser.close()
