"""Checks the links within the built site: every page, file and anchor that a page names exists.

python docs/check_links.py docs/_build/html
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and the anchors that it has.

    Args:
        path (Path): The page's file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag's links and anchors."""
        for name, value in attrs:
            if name in ('href', 'src') and value:
                self.links.append(value)
            elif name in ('id', 'name') and value:
                self.anchors.add(value)


def dead_links(root: Path) -> Iterator[str]:
    """Links within a folder of pages that lead nowhere, with the page that has them."""
    pages = {path.resolve(): Page(path) for path in sorted(root.rglob('*.html'))}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            anchor = unquote(url.fragment)
            there = target.is_file() and (
                not anchor or target not in pages or anchor in pages[target].anchors
            )
            if not there:
                yield f'{path.relative_to(root.resolve())}: {link}'


def main() -> None:
    """Prints the dead links and fails if there are some."""
    root = Path(sys.argv[1])
    dead = list(dead_links(root))
    print('\n'.join(dead) or f'{root}: all links within are alive')
    raise SystemExit(bool(dead))


if __name__ == '__main__':
    main()
