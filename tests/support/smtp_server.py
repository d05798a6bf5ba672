"""A mail server that answers each command as a test says."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

DROP, SILENCE = "drop", "silence"  # instead of an answer
BODY = "BODY"  # the name of what follows DATA


class SmtpServer:
    """Answers `answers[verb]` to a command, `CONNECT` being the greeting and `BODY` the message.

    With `tls` it offers STARTTLS. `heard` is told of each before its answer. `mails` are the bytes
    of taken messages as they were on the wire.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, str] = {}
        self.dropped = ""  # a recipient at whose name the connection ends
        self.mails: list[bytes] = []
        self.verbs: list[str] = []
        self.heard: Callable[[str], None] = lambda verb: None
        self.held = asyncio.Event()  # while it is clear after `hold()`, bodies get no answer
        self.held.set()
        self.held_recipients = asyncio.Event()  # while it is clear, recipients get no answer
        self.held_recipients.set()
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> str:
        """Listens on loopback; returns host:port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """Ends it, with its connections."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if await self._answer(reader, writer, "CONNECT", "220 ready"):
                while line := await reader.readline():
                    if not await self._command(line.decode().strip(), reader, writer):
                        break
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _command(
        self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        verb = line.partition(" ")[0].upper()
        offers = "250-STARTTLS\r\n" if self._tls and not writer.get_extra_info("sslcontext") else ""
        usual: Mapping[str, str] = {
            "EHLO": f"250-sink\r\n{offers}250 AUTH PLAIN",
            "STARTTLS": "220 go on",
            "AUTH": "235 welcome",
            "DATA": "354 go on",
        }
        if verb == "RCPT" and self.dropped and self.dropped in line:
            return False
        if verb == "RCPT" and not self.held_recipients.is_set():
            self.verbs.append(verb)
            await self.held_recipients.wait()
        if not await self._answer(reader, writer, verb, usual.get(verb, "250 fine")):
            return False
        started = self.answers.get(verb, usual.get(verb, "")).startswith(("220", "354"))
        if verb == "STARTTLS" and started and self._tls:
            await writer.start_tls(self._tls)
        if verb == "DATA" and started:
            if self.answers.get(BODY) == DROP:
                await reader.readline()
                return False
            body = await reader.readuntil(b"\r\n.\r\n")
            await self.held.wait()
            if not self.answers.get(BODY, "250").startswith(("4", "5")):
                self.mails.append(body.removesuffix(b".\r\n"))
            return await self._answer(reader, writer, BODY, "250 taken")
        return verb != "QUIT"

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, verb: str, usual: str
    ) -> bool:
        """Returns whether the connection goes on."""
        self.verbs.append(verb)
        self.heard(verb)
        answer = self.answers.get(verb, usual)
        if answer == DROP:
            return False
        if answer == SILENCE:
            await reader.read()
            return False
        writer.write(f"{answer}\r\n".encode())
        await writer.drain()
        return True
