"""What a word for consent means: the one place that decides it for every door. Pure.

A yes and a no are known words in the languages below; a sentence is a yes where it begins as one
and has neither a negation nor a condition in it. Whatever else is written is not understood and permits nothing.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

MAX_WORD = 200  # characters of a word or sentence that are looked at
TICKS, CROSSES = frozenset("✓✔☑✅🗹☒"), frozenset("✗✘❌❎☐")

_YES = """
yes, y, true, t, 1, on, x, ok, okay, checked, ticked, selected, enabled, active, agree, agreed, i agree, i do, i consent, i accept
accept, accepted, given, granted, consent, consented, consent given, opt in, opted in, double opt in, confirmed, allow, allowed
permit, permitted, subscribe, subscribed, sign me up, yes please, please do, sure, of course, email, e-mail, emails, newsletter
newsletters, marketing
ja, j, jawohl, gerne, gern, ja bitte, ja gerne, einverstanden, ich stimme zu, ich willige ein, ich bin einverstanden, stimme zu
zugestimmt, zustimmung, eingewilligt, einwilligung, einwilligung erteilt, erteilt, angemeldet, abonniert, erlaubt, akzeptiert
oui, vrai, d'accord, je suis d'accord, j'accepte, je consens, accepté, accepter, oui volontiers, oui merci, consentement, abonné
si, sí, s, verdadero, de acuerdo, estoy de acuerdo, acepto, consiento, autorizo, aceptado, suscrito
vero, accetto, acconsento, presto il consenso, autorizzo, accettato, consenso, d'accordo, sono d'accordo, iscritto
sim, verdadeiro, aceito, aceite, concordo, consinto, autorizado, de acordo, inscrito
akkoord, ik ga akkoord, ik stem toe, toestemming, ja graag, geabonneerd, waar
tak, zgoda, zgadzam się, wyrażam zgodę, akceptuję, prawda
ano, souhlasím, souhlas, přijímám, áno, súhlasím, súhlas
jag godkänner, jag samtycker, jag accepterar, godkänner, samtycker, accepterar, sant, ja tack
jeg accepterer, jeg samtykker, jeg godtar, accepterer, samtykker, godtar, ja tak, ja takk, sand, sann
kyllä, k, joo, hyväksyn, suostun, tosi
igen, elfogadom, hozzájárulok, beleegyezem, igaz
da, sunt de acord, accept, consimt, adevărat, slažem se, pristajem, soglašam, strinjam se
ναι, συμφωνώ, αποδέχομαι, συναινώ, δέχομαι
evet, e, kabul, kabul ediyorum, onaylıyorum, onay veriyorum, doğru
да, д, согласен, согласна, я согласен, я согласна, даю согласие, принимаю, истина, съгласен съм, съгласна съм
так, згоден, згодна, погоджуюсь, погоджуюся, даю згоду, приймаю
是, 是的, 对, 好, 好的, 同意, 我同意, 接受, 我接受, 订阅, 訂閱
はい, 同意する, 同意します, 承諾, 承諾する, 希望する, 希望します, 可
예, 네, 동의, 동의함, 동의합니다, 수신동의, 수락
نعم, موافق, أوافق, اوافق, أقبل, اقبل
כן, מסכים, מסכימה, אני מסכים, אני מסכימה, מאשר, מאשרת, אני מאשר, אני מאשרת
jah, nõustun, jā, piekrītu, taip, sutinku, có, đồng ý, tôi đồng ý, ya, setuju, saya setuju, ใช่, ยินยอม, ยอมรับ, हाँ, हां
"""

_NO = """
no, n, false, f, 0, off, not, never, unchecked, unticked, not checked, not ticked, not selected, disabled, inactive, disagree
i disagree, declined, decline, i decline, rejected, reject, not given, not granted, not consented, no consent, not agreed, not allowed
not permitted, not subscribed, not opted in, no thanks, no thank you, i do not, i don't, withheld
nein, nein danke, nicht, nicht erteilt, nicht zugestimmt, nicht einverstanden, keine einwilligung, abgelehnt, ich lehne ab
non, faux, non merci, refus, je refuse, pas d'accord
falso, no gracias, no acepto, rechazo, no grazie, rifiuto, não, nao, não obrigado, não obrigada, recuso
nee, nee bedankt, onwaar, niet akkoord, weiger
nie, nie dziękuję, fałsz, odmawiam, ne, ne děkuji, nesouhlasím, odmítám, nesúhlasím
nej, nej tack, nej tak, falskt, avböjer, afslår, nei, nei takk, avslår
ei, en, ei kiitos, en hyväksy, epätosi, nem, nem köszönöm, hamis, elutasítom
nu, nu mulțumesc, fals, refuz, ne slažem se, ne pristajem, zavračam
όχι, οχι, δεν συμφωνώ, δεν αποδέχομαι, hayır, hayir, h, kabul etmiyorum, onaylamıyorum, yanlış, istemiyorum
нет, не согласен, не согласна, отказ, отказываюсь, ложь, ні, ні дякую, не згоден, не згодна, не погоджуюсь, відмовляюсь, не
否, 不, 不是, 不用, 不同意, 我不同意, 不接受, 拒绝, 拒絕, いいえ, 同意しない, 同意しません, 希望しない, 希望しません, 不可
아니요, 아니오, 동의하지않음, 동의하지않습니다, 동의안함, 비동의, 미동의, 거부
لا, غير موافق, لا أوافق, لا اوافق, أرفض, ارفض, לא, לא מסכים, לא מסכימה, אני לא מסכים, אני לא מסכימה, מסרב
ei nõustu, ei soovi, nē, nepiekrītu, nesutinku, không, không đồng ý, tidak, tidak setuju, ไม่, ไม่ยินยอม, नहीं
"""

# what says that somebody has left: a withdrawal where the door reports a state, else a no
_REFUSED = """
unsubscribed, unsubscribe, unsubscribe me, opted out, opt out, withdrawn, revoked, refused, denied, do not email, do not mail
do not contact, do not contact me, do not email me, blocked, complained, cleaned, stop
abgemeldet, abbestellt, widerrufen, gesperrt, nicht kontaktieren, keine werbung, désabonné, désinscrit, dado de baja, baja
disiscritto, cancelado, descadastrado, uitgeschreven, afgemeld, wypisany, odhlášen, avregistrerad, afmeldt, avmeldt
leiratkozott, dezabonat, отписан, отписался, відписаний, 退订, 已退订, 退訂, 配信停止, 수신거부
"""

_BLANK = "null, none, nil, undefined, nan, na, unknown, keine angabe, not specified"

# how a longer yes begins; only of languages whose negation is a word of its own
_OPENINGS = """
yes, i agree, i consent, i accept, i would like, i want, i wish, please send, please subscribe, sign me up, subscribe me, keep me
ja, ich stimme zu, ich willige ein, ich bin einverstanden, ich möchte, ich will, oui, j'accepte, je consens, je suis d'accord
je souhaite, je veux, sí, acepto, consiento, autorizo, estoy de acuerdo, quiero, deseo, accetto, acconsento, autorizzo
presto il consenso, sono d'accordo, desidero, voglio, sim, aceito, concordo, consinto, quero, desejo, ik ga akkoord, ik stem toe
ik wil, tak, zgadzam się, wyrażam zgodę, akceptuję, chcę, ano, souhlasím, jag godkänner, jag samtycker, jag vill
jeg accepterer, jeg samtykker, jeg godtar, jeg vil, jeg ønsker
"""
_NEGATIONS = """
no not never none nothing without t dont doesnt wont cannot cant stop unsubscribe
nein nicht nie niemals kein keine keinen keinem keiner ohne
non ne n pas jamais sans aucun aucune nunca sin ningun ninguna ni mai senza nessun nessuna nao sem nenhum nem
niet geen nooit zonder bez nikdy inte ej aldrig utan inga ikke aldri uden uten ingen
"""
_DOUBTS = """
but unless except only if until aber nur wenn falls ausser mais sauf seulement pero salvo solo ma tranne
mas exceto apenas maar alleen tenzij ale tylko chyba pouze men bara kun
"""
_AGREEING = """
agree consent accept permit allow want wish subscrib receive stimme zustimm zugestimmt willig einwillig einverstanden mochte
erlaub akzept accepte consen autori souhait veux acept deseo quiero accett desider voglio aceit concord consint dese quero akkoord
toestem wil zgadz wyraz akcept chce souhlas godkan samtyck accepter godt vill vil onsk
"""


class Answer(Enum):
    """What was said; REFUSED is a no in words that say that somebody has left."""

    YES = "yes"
    NO = "no"
    REFUSED = "refused"
    BLANK = "blank"
    UNKNOWN = "unknown"


class Reading(NamedTuple):
    """An answer, and the words that were not understood."""

    answer: Answer
    unknown: tuple[str, ...] = ()

    @property
    def is_yes(self) -> bool:
        return self.answer is Answer.YES


def folded(text: str) -> str:
    """Text without case, accents and punctuation, its words apart by one space."""
    plain = unicodedata.normalize("NFKD", text[:MAX_WORD].casefold())
    kept = (
        character if character.isalnum() else " "
        for character in plain
        if not unicodedata.combining(character)
    )
    return " ".join("".join(kept).split())


def _compact(text: str) -> str:
    return folded(text).replace(" ", "")


def _words(listed: str) -> list[str]:
    return [word for each in listed.replace("\n", ",").split(",") if (word := each.strip())]


def _compacted(words: Iterable[str]) -> frozenset[str]:
    return frozenset(filter(None, map(_compact, words)))


YES, NO, REFUSED, BLANK = (
    _compacted(_words(listed)) for listed in (_YES, _NO, _REFUSED, _BLANK)
)  # fmt: skip
OPENINGS = tuple(sorted(f"{folded(opening)} " for opening in _words(_OPENINGS)))
NEGATIONS = frozenset(map(folded, _NEGATIONS.split()))
DOUBTS = frozenset(map(folded, _DOUBTS.split()))
AGREEING = tuple(map(folded, _AGREEING.split()))
FIRST_WORDS = 5
UNTICKED = frozenset({"", "0", "false", "off"})  # hidden values that stand for an empty box


class ConsentWords:
    """The known words, and those that a playbook adds: an added word is looked at first."""

    def __init__(self, yes: Iterable[str] = (), no: Iterable[str] = ()) -> None:
        self._yes, self._no = _compacted(yes), _compacted(no)

    def read(self, value: Any, declared: Iterable[str] = ()) -> Reading:
        """What a value says: a boolean, a number, a word, a sentence, or a list of them.

        `declared` are words that mean yes at this door, before all others: what its box is declared
        to send.
        """
        own = _compacted(declared)
        if isinstance(value, list | tuple):
            return self._read_several([each for each in value if each is not None], own)
        return self._read_one(value, own)

    def is_among(self, word: str, declared: Iterable[str]) -> bool:
        """Whether a word is one of those declared, in whatever case and spelling."""
        return _compact(word) in _compacted(declared)

    def _read_several(self, values: Sequence[Any], own: frozenset[str]) -> Reading:
        """Boxes of one name, or a box and the hidden field that stands for it unticked: before it
        (Rails), or after it as `false` (ASP.NET). A no beside a yes is a no.
        """
        if [str(value).casefold() for value in values] == ["true", "false"]:
            return Reading(Answer.YES)
        while len(values) > 1 and str(values[0]).strip().casefold() in UNTICKED:
            values = values[1:]
        readings = [self._read_one(value, own) for value in values]
        answers = {reading.answer for reading in readings}
        unknown = tuple(word for reading in readings for word in reading.unknown)
        for answer in (Answer.REFUSED, Answer.NO, Answer.YES, Answer.UNKNOWN):
            if answer in answers:
                return Reading(answer, unknown)
        return Reading(Answer.BLANK)

    def _read_one(self, value: Any, own: frozenset[str]) -> Reading:
        if value is None or value == "":
            return Reading(Answer.BLANK)
        if isinstance(value, bool | int | float) and value in (0, 1):
            return Reading(Answer.YES if value else Answer.NO)
        if not isinstance(value, str | int | float):
            return Reading(Answer.UNKNOWN, ("",))
        text = str(value).strip().removesuffix(".0")
        answer = self._read_text(text, own)
        return Reading(answer, (text,) if answer is Answer.UNKNOWN else ())

    def _read_text(self, text: str, own: frozenset[str]) -> Answer:
        plain = folded(text)
        compact = plain.replace(" ", "")
        if not compact:
            return _symbol(text)
        if compact in own or compact in self._yes:
            return Answer.YES
        if compact in self._no:
            return Answer.NO
        for known, answer in (
            (REFUSED, Answer.REFUSED), (NO, Answer.NO), (YES, Answer.YES), (BLANK, Answer.BLANK),
        ):  # fmt: skip
            if compact in known:
                return answer
        return Answer.UNKNOWN if len(text) > MAX_WORD else _sentence(plain)


def permits(wording: str) -> bool:
    """Whether a wording that somebody agreed to is not one that forbids: a negation stands at the
    beginning of those.
    """
    return NEGATIONS.isdisjoint(folded(wording).split()[:FIRST_WORDS])


def _symbol(text: str) -> Answer:
    """What signs without letters say: a tick, a cross, a dash for nothing."""
    marks = {*text} - {"\ufe0f"}
    if marks & TICKS:
        return Answer.YES
    return Answer.NO if marks & CROSSES else Answer.BLANK


def _sentence(plain: str) -> Answer:
    words = plain.split()
    negated = not NEGATIONS.isdisjoint(words)
    if plain.startswith(OPENINGS) and not negated and DOUBTS.isdisjoint(words):
        return Answer.YES
    begins_as_no = words[0].isalpha() and words[0] in NO
    if len(words) > 1 and (begins_as_no or (negated and _agrees(words))):
        return Answer.NO
    return Answer.UNKNOWN


def _agrees(words: Iterable[str]) -> bool:
    return any(word.startswith(AGREEING) for word in words)


KNOWN_WORDS = ConsentWords()
