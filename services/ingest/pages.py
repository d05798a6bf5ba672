"""The few pages that people see: thanks for a form, and the way out of our mails. They load nothing."""

from starlette.responses import HTMLResponse

_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title><style>
body{{font:1.05rem/1.6 system-ui,sans-serif;color:#1d2733;background:#f5f6f4;margin:0}}
main{{max-width:30rem;margin:18vh auto 0;padding:2rem 1.5rem;background:#fff;border-radius:.75rem}}
h1{{font-size:1.35rem;margin:0 0 .5rem}}p{{margin:.5rem 0}}
button{{font:inherit;margin-top:1rem;padding:.6rem 1.2rem;border:0;border-radius:.5rem;background:#1f5f4a;color:#fff}}
</style></head><body><main><h1>{title}</h1>{text}</main></body></html>"""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def thanks() -> HTMLResponse:
    """After a form that names no page of its own."""
    return _page("Thank you", "<p>We have received your message.</p>")


def leave() -> HTMLResponse:
    """Asks whether to unsubscribe; a mail scanner that opens it changes nothing."""
    return _page(
        "No more mails?",
        "<p>One click, and we stop writing to this address.</p>"
        '<form method="post"><button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>',
    )


def left() -> HTMLResponse:
    """After it."""
    return _page("You are unsubscribed", "<p>We will not write to this address any more.</p>")


def _page(title: str, text: str) -> HTMLResponse:
    return HTMLResponse(_FRAME.format(title=title, text=text), headers=HEADERS)
