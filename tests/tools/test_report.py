"""The report page stands alone and shows what the table shows."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from tests.tools.summaries import summary
from tools import report, table

LINKING = {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}


class Page(HTMLParser):
    """The tags of a page, and whatever its attributes point at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in LINKING]


def assert_self_contained(text: str) -> None:
    page = Page(text)
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert not outside
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in text
    assert text.count("url(") == text.count("url(#")


def digits(count: int) -> list[report.Digit]:
    answer = report.Answer(3, 0.9, right=False, agrees=False)
    return [report.Digit(i, 5, "data:image/png;base64,", (answer, answer)) for i in range(count)]


def test_page_holds_everything_and_needs_nothing() -> None:
    found = [summary(), summary("layer_norm", largest_error=1.0)]
    text = report.render(found, digits(3))
    assert_self_contained(text)
    page = Page(text)
    assert page.tags.count("svg") == 3
    assert page.tags.count("img") == 3
    for word in (*table.COLUMNS[4:], "group_norm", "layer_norm", "19 → 19", "a processor", "≠ TF"):
        assert word in text
    assert "layer_norm (custom): a probability differs" in text
    assert ">failed<" in text
    assert ">passed<" not in text


def test_page_of_good_models_says_so() -> None:
    text = report.render([summary()], [])
    assert ">passed<" in text
    assert ">failed<" not in text


def test_page_without_a_race_has_no_latency() -> None:
    assert 'id="latency"' not in report.render([summary(raced=False)], [])


def test_digits_are_ordinary_ones_then_the_hardest() -> None:
    labels = np.arange(20) % 10
    right = np.eye(10, dtype=np.float32)[labels]
    first, second = right.copy(), right.copy()
    # One model errs on 12 and 15, both on 17, which comes first; of the two it is surer of 15.
    first[12] = np.roll(right[12], 1) * 0.6
    first[15] = np.roll(right[15], 1) * 0.9
    first[17] = second[17] = np.roll(right[17], 1) * 0.5
    expected = [*range(report.EASY_DIGITS), 17, 15, 12]
    assert report.choose([first, second], labels) == expected
    assert report.choose([right], labels) == list(range(report.EASY_DIGITS))
    assert report.choose([right[:2]], labels[:2]) == [0, 1]
