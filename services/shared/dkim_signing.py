"""DKIM signatures of mails (RFC 6376, 8463): RSA with SHA-256, or Ed25519, as the key is."""

import base64
from pathlib import Path
from typing import NamedTuple, Self

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from services.shared.errors import Reject
from services.shared.settings import Settings

SIGNED = (
    b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type",
    b"list-unsubscribe", b"list-unsubscribe-post",
)  # fmt: skip
SETTING = "RIPELINE_DKIM_KEY_FILE"
SHORTEST_RSA = 1024  # bits; receivers take no shorter key (RFC 8301)
MAKE_ONE = "make one by `openssl genrsa -out dkim.pem 2048`"


class Signer(NamedTuple):
    """Signs for a domain under a selector; `key` in the form that dkimpy takes."""

    domain: str
    selector: str
    algorithm: bytes
    key: bytes

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """None where the settings name no key. Raises Reject for a key that cannot be used."""
        if settings.dkim_key_file is None:
            return None
        algorithm, key = _read(settings.dkim_key_file)
        return cls(settings.dkim_domain, settings.dkim_selector, algorithm, key)

    def signed(self, mail: bytes) -> bytes:
        """The mail with its signature before it. Every signed header is named once more than it
        stands there, so that none can be added.
        """
        message = dkim.DKIM(mail, signature_algorithm=self.algorithm)
        there = [name.lower() for name, _ in message.headers]
        names = [name for name in SIGNED for _ in range(there.count(name) + 1)]
        signature = message.sign(
            self.selector.encode(),
            self.domain.encode(),
            self.key,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=names,
        )
        return bytes(signature) + mail

    def record(self) -> str:
        """The TXT record that belongs under `SELECTOR._domainkey.DOMAIN`."""
        public = public_key(self.algorithm, self.key)
        kind = "ed25519" if self.algorithm.startswith(b"ed25519") else "rsa"
        return f"v=DKIM1; k={kind}; p={public}"


def public_key(algorithm: bytes, key: bytes) -> str:
    """The public half as a DKIM record holds it, base64."""
    if algorithm.startswith(b"ed25519"):
        private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(key))
        raw = private.public_key().public_bytes_raw()
    else:
        loaded = load_pem_private_key(key, None)
        raw = loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(raw).decode()


def _read(path: Path) -> tuple[bytes, bytes]:
    """(algorithm, key). Raises Reject."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        remedy = f"let this user read {path}"
        raise Reject(f"no file to read ({error.strerror})", where=SETTING, remedy=remedy) from None
    except (ValueError, TypeError):
        raise Reject("no private key in PEM", where=SETTING, remedy=MAKE_ONE) from None
    if isinstance(key, Ed25519PrivateKey):
        return b"ed25519-sha256", base64.b64encode(key.private_bytes_raw())
    if isinstance(key, RSAPrivateKey) and key.key_size >= SHORTEST_RSA:
        form = PrivateFormat.TraditionalOpenSSL
        return b"rsa-sha256", key.private_bytes(Encoding.PEM, form, NoEncryption())
    raise Reject(
        f"neither an Ed25519 key nor an RSA key of {SHORTEST_RSA} bits or more",
        where=SETTING, remedy=MAKE_ONE,
    )  # fmt: skip
