"""What a channel needs to begin with: a signed webhook its secret (N7)."""

import os
import subprocess
import sys

import pytest
from pydantic import SecretStr

from services.nurture.channels.webhook import Webhook
from services.ops.commands.secret_files import FILES, new_signer
from services.shared.errors import Reject
from services.shared.settings import ROOT, Settings

URL = "https://hooks.example/in"


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_a", "????", "whsec_c2hvcnQ=", "whsec_ä", "a" * 20]
)
def test_without_a_sound_secret_a_webhook_does_not_begin(secret: str) -> None:
    settings = Settings(webhook_url=URL).model_copy(update={"webhook_secret": SecretStr(secret)})
    with pytest.raises(Reject) as refused:
        Webhook(settings)
    assert refused.value.where == "RIPELINE_WEBHOOK_SECRET"
    assert "whsec_" in refused.value.remedy
    assert not secret or secret not in refused.value.title


def test_without_an_address_no_secret_is_asked_for() -> None:
    Webhook(Settings(webhook_url=""))


def test_an_installation_makes_the_secrets_of_all_its_webhooks() -> None:
    for name in ("webhook", "crm"):
        make, _ = FILES[f"ripeline_{name}_secret"]
        assert make is new_signer
    Webhook(Settings(webhook_url=URL, webhook_secret=new_signer()))


def test_nurture_says_in_a_sentence_why_it_does_not_start() -> None:
    given = {"RIPELINE_WEBHOOK_URL": URL, "RIPELINE_PEPPER": "x" * 32}
    started = subprocess.run(
        [sys.executable, "-m", "services.nurture"],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert started.returncode != 0
    assert "RIPELINE_WEBHOOK_SECRET: no secret to sign with" in started.stderr
    assert "Traceback" not in started.stderr
