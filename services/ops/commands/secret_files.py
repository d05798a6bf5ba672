"""The first secrets of an installation: API keys, pepper, passwords, what signs webhooks; each a
file, written once.
"""

import base64
import os
import secrets
import sys
from pathlib import Path

from services.shared.http.keys import new_key

OWNER_ONLY, GROUP_TOO = 0o400, 0o440


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def new_signer() -> str:
    """A secret of Standard Webhooks: 256 random bits."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


FILES = {
    "ripeline_pepper": (new_secret, OWNER_ONLY),
    # PostgreSQL, another user, is in our group
    "ripeline_database_password": (new_secret, GROUP_TOO),
    "ripeline_secret_key": (new_key, OWNER_ONLY),
    "ripeline_public_key": (new_key, OWNER_ONLY),
    "ripeline_query_key": (new_key, OWNER_ONLY),
    "ripeline_webhook_secret": (new_signer, OWNER_ONLY),
    "ripeline_crm_secret": (new_signer, OWNER_ONLY),
    "ripeline_handoff_secret": (new_signer, OWNER_ONLY),
}


def write_missing(folder: Path) -> list[str]:
    """Write the secrets that the folder lacks and return their names; those that it has stay."""
    missing = [name for name in FILES if not (folder / name).exists()]
    for name in missing:
        make, mode = FILES[name]
        _write(folder / name, make(), mode)
    return missing


def _write(path: Path, text: str, mode: int) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def main() -> None:
    """`python -m services.ops.commands.secret_files FOLDER` prints names of what it wrote, never
    secrets.
    """
    os.umask(0o027)
    if len(sys.argv) != 2:
        sys.exit("usage: python -m services.ops.commands.secret_files FOLDER")
    written = write_missing(Path(sys.argv[1]))
    print("wrote " + ", ".join(written) if written else "all secrets are there")


if __name__ == "__main__":
    main()
