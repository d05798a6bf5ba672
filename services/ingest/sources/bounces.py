"""What a mail that came back says of its address: the one table for reports by mail and the
webhooks of mail tools.

`hard` is that nobody is there; what may pass (a full mailbox, a block, a server that is away) is
`soft`. The status of RFC 3463 decides, and where it is too general the words of the server, wherever
they stand in the report. Texts are compared in lower case, their blanks as one.
"""

import re
from typing import Literal

MAX_TEXT = 8_000  # characters of a report that are looked at

Kind = Literal["hard", "soft", ""]

STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?!\.?\d)")  # and no piece of an IP address
# nobody is there; 5.1.7 and 5.1.8 are about the sender, 5.4.1 and 5.4.4 about a domain without mail
HARD = re.compile(r"5\.1\.(?![78]\b)[1-9]\d*|5\.2\.1|5\.4\.(?:1|4|310)")
# these say nothing but that it failed: the words decide
GENERAL = re.compile(r"5\.(?:0\.0|1\.0|3\.0|4\.0|5\.\d+|2\.0)")
LASTING_REPLY = re.compile(r"(?<![\d.])55[0-46](?![\d.])")  # of SMTP, without a status

ABOUT_SENDER = re.compile(
    r"\bsender(?:'s)?\b.{0,20}\b(?:address|domain|verif|unknown|rejected|not exist)"
    r"|\b(?:from address|envelope from|return path|your domain|sending domain)\b"
)
FULL = (
    "mailbox full", "mailbox is full", "inbox is full", "over quota", "overquota", "quota exceeded", "exceeded quota",
    "exceeds quota", "exceeded storage", "exceeded its storage", "storage allocation", "storage limit", "insufficient storage",
    "out of storage", "mailbox size limit", "disk quota", "over the maximum allowed", "quota has been exceeded", "quotaexceeded",
    "postfach ist voll", "postfach voll", "speicherplatz", "boîte pleine", "boite pleine", "quota dépassé", "buzón lleno",
    "casella piena", "caixa cheia", "mailbox vol", "skrzynka jest pełna", "ящик переполнен", "邮箱已满", "邮箱空间", "容量超過",
)  # fmt: skip
NOBODY = (
    "user unknown", "unknown user", "no such user", "no such mailbox", "no such recipient", "no such address", "no such person",
    "no such account", "no such local", "no user here", "no mailbox here", "no mailbox by that name", "not our customer",
    "user not found", "mailbox not found", "recipient not found", "address not found", "account not found", "recipnotfound",
    "recipientnotfound", "unknown recipient", "recipient unknown", "unknown address", "address unknown", "unknown mailbox",
    "unknown account", "unknown local part", "unknown local-part", "unknown to address", "user is unknown", "user does not exist",
    "user doesn't exist", "invalid recipient", "invalid mailbox", "invalid address", "invalid user", "address is invalid",
    "address invalid", "unrouteable address", "unroutable address", "unrouteable mail", "undeliverable address",
    "bad destination mailbox", "bad destination system", "mailbox unavailable", "mailbox does not exist", "mailbox doesn't exist",
    "mailbox disabled", "mailbox is disabled", "mailbox inactive", "mailbox is inactive", "mailbox closed", "disabled user",
    "user disabled", "account disabled", "account is disabled", "account has been disabled", "account that you tried to reach is",
    "inactive user", "account inactive", "account deactivated", "account has been deactivated", "account closed",
    "account has been suspended", "account is suspended", "account terminated", "does not like recipient",
    "not a valid mailbox", "not a valid user", "not a valid recipient", "not a valid address", "not a known user",
    "no longer valid", "no longer active", "no longer in use", "no longer works", "no longer employed", "no longer with",
    "no longer at this", "has left the company", "doesn't have a", "not listed in", "wasn't found at", "couldn't be found",
    "could not be found", "domain not found", "domain does not exist", "host not found", "name not found", "host unknown",
    "unknown host", "name or service not known", "nxdomain", "no mx record", "no such domain", "illegal alias",
    "unbekannter benutzer", "benutzer unbekannt", "empfänger unbekannt", "empfänger existiert nicht", "adresse existiert nicht",
    "adresse nicht gefunden", "postfach existiert nicht", "utilisateur inconnu", "destinataire inconnu", "adresse inconnue",
    "n'existe pas", "usuario desconocido", "destinatario desconocido", "no existe", "buzón desconocido", "utente sconosciuto",
    "destinatario sconosciuto", "casella inesistente", "indirizzo inesistente", "usuário desconhecido", "não existe",
    "gebruiker onbekend", "onbekende gebruiker", "bestaat niet", "nie istnieje", "nieznany użytkownik", "neexistuje",
    "okänd mottagare", "finnes ikke", "findes ikke", "ei löydy", "ismeretlen címzett", "bulunamadı", "пользователь не найден",
    "нет такого пользователя", "ящик не существует", "邮箱不存在", "用户不存在", "收件人不存在", "信箱不存在", "宛先不明",
    "ユーザーが見つかりません", "존재하지 않는",
)  # fmt: skip
MISSING = re.compile(
    r"\b(?:user|mailbox|recipient|address|account|domain)\b.{0,60}\b(?:unknown|not found|not exist|not be found|n't exist"
    r"|disabled|invalid)\b"
)


def kind_of(status: str, *texts: str) -> Kind:
    """Whether nobody is at the address, by the status (`5.1.1`, '' where there is none) and the
    server's words; '' where neither says it.
    """
    words = " ".join(" ".join(texts)[:MAX_TEXT].casefold().split())
    if not status or GENERAL.fullmatch(status):
        status = status_in(words) or status
    if HARD.fullmatch(status):
        return "hard"
    if status and not GENERAL.fullmatch(status):
        return "soft"
    return _by_words(words)


def status_in(text: str) -> str:
    """The first status in a text that says more than that it failed; '' where none does."""
    found = STATUS.findall(text[:MAX_TEXT])
    return next((status for status in found if not GENERAL.fullmatch(status)), "")


def _by_words(words: str) -> Kind:
    if any(phrase in words for phrase in FULL) or ABOUT_SENDER.search(words):
        return "soft"
    if any(phrase in words for phrase in NOBODY) or MISSING.search(words):
        return "hard"
    return ""
