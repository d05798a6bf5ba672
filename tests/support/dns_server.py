"""A DNS server over UDP on loopback that knows what a test tells it."""

import asyncio
from collections.abc import Mapping, Sequence

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Zone = Mapping[tuple[str, str], Sequence[str]]  # (name, type) -> texts of records


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `zone`, NXDOMAIN for a name that is not in it; a name in `failing` has SERVFAIL,
    one in `silent` no answer. `asked` are the questions in their order.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone: dict[tuple[str, str], Sequence[str]] = {
            (name.lower(), type_): texts for (name, type_), texts in zone.items()
        }
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self.asked: list[tuple[str, str]] = []

    async def start(self) -> str:
        """Listens on loopback; returns host:port."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        host, port = self._transport.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._answer(dns.message.from_wire(data))
        if answer is not None and self._transport:
            self._transport.sendto(answer.to_wire(), addr)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        type_ = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, type_))
        answer = dns.message.make_response(query, recursion_available=True)
        if name in self.silent:
            return None
        if name in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif texts := self.zone.get((name, type_)):
            answer.answer.append(
                dns.rrset.from_text(question.name, 60, dns.rdataclass.IN, type_, *texts)
            )
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer


def txt(text: str) -> str:
    """A TXT record's text in strings of at most 255 bytes."""
    parts = [text[start : start + 255] for start in range(0, len(text), 255)]
    return " ".join(f'"{part}"' for part in parts)
