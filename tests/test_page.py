"""Pages of our own: whole in one file, and unable to fetch anything."""

import json

import pytest

from vol3dseg.reporting.page import html_page, image_uri, script_json

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360"
    "f8cfc0f01f0005050101cfa5f6a50000000049454e44ae426082"
)


def test_a_page_runs_its_script_without_a_message(browse, tmp_path):
    hostile = script_json(json.dumps("</script><b>\u2028"))
    body = f'<p id="x"></p><img src="{image_uri(PIXEL)}">'
    script = f'document.getElementById("x").textContent = {hostile}.length;'
    (tmp_path / "page.html").write_text(html_page("a < b", body, script=script), "utf-8")
    dom, console = browse(tmp_path / "page.html")
    assert '<p id="x">13</p>' in dom
    assert "<title>a &lt; b</title>" in dom
    assert not console


@pytest.mark.parametrize(
    "body", ['<img src="https://example.org/a.png">', '<script src="a.js"></script>']
)
def test_a_page_cannot_fetch(body, browse, tmp_path):
    (tmp_path / "a.js").write_text("document.title = 'fetched'", "utf-8")
    (tmp_path / "page.html").write_text(html_page("x", body), "utf-8")
    dom, console = browse(tmp_path / "page.html")
    assert "fetched" not in dom
    assert any("Content Security Policy" in line for line in console)
