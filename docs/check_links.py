"""Check the built site: every link to a page, a place on a page, or a file of the site has its target. No network."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the places of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), set()
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs.get("id"), attrs.get("name")}
        self.links |= {attrs.get("href"), attrs.get("src")} - {None}


def broken(folder):
    """(page, link) of each link without a target."""
    pages = {path: Page(path) for path in folder.resolve().rglob("*.html") if "_static" not in path.parts}
    for path, page in pages.items():
        for link in page.links:
            scheme, host, target, _, place = urlsplit(link)
            if scheme or host or link.startswith("#top"):
                continue
            aim = (path.parent / unquote(target)).resolve() if target else path
            if not aim.exists() or (place and aim in pages and unquote(place) not in pages[aim].places):
                yield path.relative_to(folder.resolve()), link


if __name__ == "__main__":
    found = sorted(broken(Path(sys.argv[1])), key=str)
    print(*(f"{page}: {link}" for page, link in found), f"{len(found)} broken links", sep="\n")
    sys.exit(bool(found))
