"""Markup, templates and line breaks in what strangers write and others read."""

from email.message import EmailMessage

import httpx

from tests.support import present
from tests.support.ingest_process import IngestProcess
from tests.support.raw_http import read_to_end
from tests.support.refusals import refused
from tests.support.running_system import System, body_of, wait_until

SCRIPT = '<script>alert(1)</script><img src=x onerror="alert(2)">'


TEMPLATE = (
    "{{7*1910191}}{% for a in ().__class__.__base__.__subclasses__() %}x{% endfor %}"
    "${7*1910191}#{7*1910191}"
)


class Victim:
    """A lead that put harm into every field of a form, and the mail that it got."""

    def __init__(self, system: System, name: str) -> None:
        self.email = system.address("mallory")
        fields = {
            "email": self.email, "name": name, "first_name": name, "company": name, "title": name,
            "timezone": present.midday_zone(), "consent": "yes", "consent_text": name,
            "utm_source": name, "utm_campaign": name,
        }  # fmt: skip
        if "\n" not in name:  # such a trait's name is refused, its value is not
            fields[name] = name
        answer = system.http.post(
            f"{system.ingest}/v1/forms/demo", params={"key": system.keys["public"]}, data=fields
        )
        assert answer.status_code == 200, answer.text
        self.id = system.wait_for_lead(1, email=self.email)["id"]
        self.mail: EmailMessage = wait_until(lambda: next(iter(system.mails(self.email)), None), 40)


def parts(mail: EmailMessage) -> tuple[str, str]:
    """(text, HTML)."""
    return body_of(mail), body_of(mail, "html")


def page_of(system: System, lead: str) -> str:
    """The lead's page as somebody sees it who is signed in."""
    with httpx.Client(base_url=system.scorer) as http:
        assert http.get("/sign-in", params={"key": system.keys["query"]}).status_code == 303
        return http.get(f"/leads/{lead}").text + http.get("/").text


def test_stored_xss_in_a_name(system: System) -> None:
    """It is text, on the page and in the mail."""
    victim = Victim(system, SCRIPT)
    shown = page_of(system, victim.id)
    assert "&lt;script&gt;alert(1)" in shown
    for html in (shown, parts(victim.mail)[1]):
        assert "<script>alert" not in html
        assert "<img src=x" not in html


def test_template_injection_in_a_name(system: System) -> None:
    """Nobody's words are ever a template."""
    victim = Victim(system, TEMPLATE)
    for text in (page_of(system, victim.id), *parts(victim.mail), str(victim.mail["Subject"])):
        assert "13371337" not in text


def test_crlf_in_a_form_field_that_reaches_a_mail(system: System) -> None:
    """A line break in a name begins no header, and an address with one is no address."""
    victim = Victim(system, "Ann\r\nBcc: victim@signed.example\r\n\r\nBuy now")
    assert victim.mail["Bcc"] is None
    assert victim.mail["To"] == victim.email
    for text in (*parts(victim.mail), str(victim.mail["Subject"])):
        assert "victim" not in text
    for address in (
        f"{victim.email}\r\nBcc: victim@signed.example",
        f"{victim.email}%0d%0aBcc:x@y.example",
        f"a,{victim.email}",
    ):
        answer = system.post("/v1/forms/demo", "public", data={"email": address})
        refused(answer, 400, "invalid", "/email")


def test_an_advert_in_a_name(system: System) -> None:
    """Nobody makes us send their words to a stranger: what is no name is not greeted by it."""
    victim = Victim(system, "Win-at-https://evil.example/now")
    for text in (*parts(victim.mail), str(victim.mail["Subject"])):
        assert "evil.example" not in text


def test_crlf_in_what_comes_back_as_a_header(ingest: IngestProcess) -> None:
    """Nothing that is sent to us splits our answer."""
    connection = ingest.connection()
    path = "/v1/forms/demo%0d%0aSet-Cookie:%20a=b?key=%0d%0aX-Owned:%201"
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nOrigin: a%0d%0aX-Owned: 1\r\nConnection: "
        "close\r\n\r\n".encode()
    )
    head = read_to_end(connection).partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 401")
    assert b"owned" not in head
    assert b"set-cookie" not in head


def test_a_forged_host(ingest: IngestProcess) -> None:
    """No address that we give is made of what a request calls us."""
    headers = ingest.key("public") | {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "host=evil.example",
    }
    answers = [
        ingest.http.post(
            f"{ingest.url}/v1/forms/demo", data={"email": "a@b.example"}, headers=headers
        ),
        ingest.http.post(
            f"{ingest.url}/v1/forms/demo/", data={"email": "a@b.example"}, headers=headers
        ),
        ingest.http.get(f"{ingest.url}/health/live/", headers=headers),
        ingest.http.get(f"{ingest.url}/openapi.json", headers=headers),
    ]
    for answer in answers:
        assert "evil.example" not in answer.text
        assert "evil.example" not in str(answer.headers)
