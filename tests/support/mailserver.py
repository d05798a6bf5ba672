"""A real IMAP server, Dovecot on loopback, with one user and a folder of mail that belongs to the
test.
"""

import imaplib
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from services.ops.embedded.processes import tied
from tests.support import present
from tests.support.ports import free_port

PROGRAM = "/usr/sbin/dovecot"
USER, PASSWORD = "answers@millwarden.example", "pass w%rd/ä"
CONFIGURATION = """
protocols = imap
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
first_valid_uid = 1
mail_location = maildir:{folder}/mail
auth_mechanisms = plain login
ssl = {ssl}
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_dh =
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid={owner} gid={group} home={folder}/home
}}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
service stats {{
  chroot =
}}
"""


class MailServer:
    """One server; with `certificate` and `key` it speaks TLS too. Mail is delivered by IMAP's
    APPEND.
    """

    def __init__(
        self, folder: Path, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self.folder, self.port, self.tls_port = folder, free_port(), free_port()
        self.log = folder / "dovecot.log"
        for name in ("run", "state", "mail", "home"):
            (folder / name).mkdir(parents=True)
        # then Dovecot wants its own accounts, and keeps mail for nobody with uid 0
        root = os.geteuid() == 0
        owner = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.geteuid())
        me = owner.pw_name
        text = CONFIGURATION.format(
            folder=folder, port=self.port, tls_port=self.tls_port if certificate else 0,
            owner=owner.pw_uid, group=owner.pw_gid,
            internal="dovecot" if root else me, internal_group="dovecot" if root else os.getgid(),
            login="dovenull" if root else me, ssl="yes" if certificate else "no",
            certificate=certificate, key=key,
        )  # fmt: skip
        if not certificate:
            text = "".join(
                line
                for line in text.splitlines(keepends=True)
                if not line.startswith(("ssl_cert", "ssl_key"))
            )
        (folder / "dovecot.conf").write_text(text)
        (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}::::::\n")
        if root:
            for path in (folder / "mail", folder / "home"):
                shutil.chown(path, owner.pw_uid, owner.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; returns once it answers."""
        with self.log.open("ab") as log:
            command = tied([PROGRAM, "-F", "-c", str(self.folder / "dovecot.conf")])
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up = time.monotonic() + 20
        while True:
            try:
                imaplib.IMAP4("127.0.0.1", self.port, timeout=5).logout()
                return
            except (OSError, imaplib.IMAP4.error):
                if time.monotonic() > give_up or self._process.poll() is not None:
                    raise RuntimeError(
                        f"Dovecot does not answer:\n{self.log.read_text()}"
                    ) from None
                time.sleep(0.1)

    def stop(self) -> None:
        """Ends it."""
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def deliver(self, *mails: bytes, folder: str = "INBOX") -> None:
        """Puts mails into a folder, named as on the wire, as its server would."""
        imap = self.connected()
        imap.create(folder)
        for mail in mails:
            status, answer = imap.append(folder, "", imaplib.Time2Internaldate(present.now()), mail)
            if status != "OK":
                raise RuntimeError(f"APPEND: {answer}")
        imap.logout()

    def connected(self) -> imaplib.IMAP4:
        """A connection of the mailbox's owner."""
        imap = imaplib.IMAP4("127.0.0.1", self.port, timeout=10)
        imap.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
        return imap

    def reset_uids(self) -> None:
        """Deletes the server's indexes, as after a restored backup: UIDVALIDITY changes."""
        for path in (self.folder / "mail").glob("dovecot*"):
            path.unlink()
