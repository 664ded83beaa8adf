"""One HTML file that needs nothing but itself: style, script and pictures are inside."""

import base64
from html import escape
from importlib import resources

# What the page may load: its own inline parts and nothing from anywhere else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# An empty icon, or browsers would ask the page's host for one.
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
{script}
</body>
</html>
"""


def html_page(title: str, body: str, style: str = "", script: str = "") -> str:
    """Return an HTML document around a body of HTML; `style` follows that of all our pages."""
    common = resources.files(__package__).joinpath("page.css").read_text("utf-8")
    return _TEMPLATE.format(
        policy=_POLICY,
        title=escape(title),
        style=common + style,
        body=body,
        script=f"<script>\n{script}\n</script>" if script else "",
    )


def image_uri(content: bytes, kind: str = "png") -> str:
    """Return a picture file as a `data:` address of media type image/<kind>, for an `<img>`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def script_json(text: str) -> str:
    """Return JSON so that it may stand inside a `<script>` element, whatever strings it holds."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
