"""The site's index lists every notebook by its title, and a link that leads nowhere is found."""

import pytest
import test_project

from workflow import site


def test_the_index_has_every_notebook_by_its_title():
    page = site.index(test_project.NOTEBOOKS)
    for path in test_project.NOTEBOOKS:
        assert f'<a href="notebooks/{path.stem}.html">' in page
    assert "Table 1: attributional robustness" in page and 'href="reference/artlib.html"' in page


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("b/two.html", False),
        ("b/two.html#here", False),
        ("b/../b/two.html", False),
        ("#top", False),
        ("https://example.org/x", False),
        ("mailto:a@example.org", False),
        ("b/three.html", True),
        ("b/two.html#there", True),
        ("#bottom", True),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path, link, found):
    (tmp_path / "b").mkdir()
    page = f'<p id="top"><a class="x" href="{link}">go</a><script>`<a href="${{url}}">`</script></p>'
    (tmp_path / "one.html").write_text(page)
    (tmp_path / "b" / "two.html").write_text('<p id="here"><a href="../one.html#top">back</a></p>')
    assert site.broken_links(tmp_path) == ({("one.html", link)} if found else set())
