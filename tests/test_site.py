"""The site's index lists every notebook by its title, and a link that leads nowhere is found."""

import re

import pytest
import test_project

from workflow import site


def test_the_index_has_every_notebook_by_its_title():
    page = site.index(test_project.NOTEBOOKS)
    for path in test_project.NOTEBOOKS:
        assert f'<a href="notebooks/{path.stem}.html">' in page
    assert "Table 1: attributional robustness" in page and 'href="reference/artlib.html"' in page


def test_the_index_begins_as_the_readme_does():
    page = site.index(test_project.NOTEBOOKS)
    assert "<b>LENS</b>: <em>Rethinking Robustness of Model Attributions</em>" in page
    assert f'<img src="{site.PICTURE}" alt="One CIFAR-10 image' in page and (site.REFERENCE / site.PICTURE).exists()
    assert "make reproduce" not in page and not re.search(r"\*\*|\]\(|To try it", page)
    beginnings = re.findall(r"<h3>(\w+)</h3><ul><li><a[^>]*>(\w+)", page)
    assert [group for group, _ in beginnings] == [*site.GROUPS] and dict(beginnings)["Tables"] == "Table"


def test_the_reference_has_a_page_for_every_module():
    files = {".".join(path.relative_to(test_project.ROOT).with_suffix("").parts) for path in test_project.SOURCES}
    names = {name.removesuffix(".__init__") for name in files}
    assert set(site.modules()) == {name for name in names if not name.rpartition(".")[2].startswith("_")}


def test_a_page_of_the_reference_can_be_read():
    ranged = (
        '<span class="n">typing</span><span class="o">.</span><span class="n">Annotated</span><span class="p">[</span>'
        '<span class="nb">float</span><span class="p">,</span> <span class="n">Range</span><span class="p">(</span>'
        '<span class="n">low</span><span class="o">=</span><span class="mi">0</span><span class="p">)]]</span>'
    )
    assert site.readable(ranged) == '<span class="nb">float</span><span class="p">]</span>'
    assert site.readable("typing.Annotated[int, Range(low=0, high=inf)] = 3") == "int = 3"
    assert site.readable(f"{8 / 255} {1.5 / 255} {0.0123456789012345} 0.05") == "8/255 1.5/255 0.0123456789012345 0.05"
    assert site.readable('<p id="a"><a href="#a">x</a><a href="#b">y</a>') == '<p id="a"><a href="#a">x</a>y'


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
