"""Pages of one HTML file that need nothing but a browser: a template with a style, scripts, and data as JSON.

Text is embedded as JSON with `<`, `>` and `&` escaped, and the scripts insert it as text, never as markup. A content security
policy allows no script but the page's own, and no requests.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping


def filled(template: str, *, mark: str, title: str, style: str, script: str, data: Mapping[str, object]) -> str:
    """The template with `{{mark}}`, `{{policy}}`, `{{title}}`, `{{style}}`, `{{data}}` and `{{script}}` filled in."""
    fields = {
        "mark": mark,
        "policy": f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; base-uri 'none'",
        "title": html.escape(title),
        "style": style,
        "data": _escaped_json(data),
        "script": script,
    }
    before, *pieces = template.split("{{")
    return before + "".join(fields[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces))


def _escaped_json(data: Mapping[str, object]) -> str:
    """JSON that can stand in a script element: it cannot close it or open a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
