"""One person's story by a Python client of Segment or RudderStack, unchanged but for its host:
`python story.py MODULE HOST KEY USER COOKIE EMAIL WRONG_HOST WRONG_KEY`.

Prints as JSON what the client said of what failed: of the story, and of a call with a wrong key.
"""

import importlib
import json
import sys

module, host, key, user, cookie, email, *wrong = sys.argv[1:]
Client = importlib.import_module(module).Client


def heard(host, key, tell):
    failed = []
    client = Client(key, host=host, on_error=lambda error, _: failed.append(str(error)))
    tell(client)
    client.shutdown()
    return failed


def story(client):
    client.page(anonymous_id=cookie, category="Docs", name="Pricing",
                properties={"url": "https://www.millwarden.example/pricing"})  # fmt: skip
    client.identify(user, {"email": email, "title": "Plant manager"}, anonymous_id=cookie)
    client.group(user, "account-7", {"name": "Bo and Company"})
    client.track(user, "Demo Requested", {"where": "header"})
    client.alias(f"old-{cookie}", user)


told = heard(host, key, story)
refused = heard(*wrong, lambda client: client.track(user, "Demo Requested"))
print(json.dumps({"story": told, "wrong key": refused}))
