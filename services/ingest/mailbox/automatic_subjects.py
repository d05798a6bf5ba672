"""The subjects of automatic answers, as Outlook, Exchange, Gmail, Notes, Zendesk and common mail
servers write them: how they begin, a language a line.

A subject is one where such a beginning ends the subject or is followed by a mark that no sentence
goes on after, so that "Out of office furniture" is a person's.
"""

import re
from functools import lru_cache

from services.ingest.mailbox.folding import folded

_BEGINNINGS = """
automatic reply, automatic response, automatic answer, automated reply, automated response, automated message, auto-reply
auto reply, autoreply, auto-response, auto response, autoresponse, auto-responder, autoresponder, auto-acknowledgement
automatic acknowledgement, automatic acknowledgment, out of office, out of the office, out-of-office, out of office reply
out of office autoreply, out of office auto-reply, out of office message, out of office notification, out of office response
ooo, oof, ooto, i am out of the office, i'm out of the office, i am out of office, i'm out of office, currently out of office
away from my desk, away from my office, away from the office, away from my mail, on leave, on annual leave, on maternity leave
on paternity leave, on parental leave, on sick leave, on vacation, vacation reply, vacation response, vacation notice
absence notification, no longer with the company
request received, ticket received, your request has been received, your ticket has been received, we received your request
we have received your request, we received your email, we have received your email, we have received your message
we received your message, case created, ticket created
automatische antwort, automatische rückantwort, automatische rückmeldung, automatische eingangsbestätigung, eingangsbestätigung
abwesenheitsnotiz, abwesenheitsnachricht, abwesenheitsmeldung, abwesenheitsbenachrichtigung, abwesenheit, abwesend, außer haus
ausser haus, nicht im haus, nicht im büro, ich bin nicht im büro, ich bin derzeit nicht im büro, ich bin im urlaub, im urlaub
urlaubsbenachrichtigung, ihre anfrage ist eingegangen
réponse automatique, message automatique, absence du bureau, absent du bureau, absente du bureau, message d'absence
notification d'absence, absence, absent, absente, en congé, en congés, je suis absent, je suis absente, en vacances
accusé de réception, demande reçue
respuesta automática, contestación automática, respuesta automatizada, autorespuesta, mensaje automático, fuera de la oficina
fuera de oficina, ausente de la oficina, ausente, ausencia, estoy fuera de la oficina, de vacaciones, solicitud recibida
risposta automatica, risponditore automatico, messaggio automatico, fuori sede, fuori ufficio, fuori dall'ufficio
assenza dall'ufficio, assente dall'ufficio, assente, assenza, in ferie, richiesta ricevuta
resposta automática, resposta automàtica, mensagem automática, fora do escritório, ausência do escritório, ausência temporária
ausente do escritório, ausência, ausente, de férias, estou fora do escritório, pedido recebido, solicitação recebida
automatisch antwoord, automatische beantwoording, automatisch bericht, afwezigheidsbericht, afwezigheid, afwezig, niet aanwezig
buiten kantoor, niet op kantoor, met vakantie, op vakantie, aanvraag ontvangen
automatiskt svar, autosvar, automatisk svar, automatiskt meddelande, frånvaromeddelande, frånvaro, frånvarande, ej på kontoret
inte på kontoret, på semester, ikke til stede, ikke på kontoret, fravær, fraværende, fraværsmeddelelse, fraværsmelding
fraværsassistent, på ferie, borte fra kontoret, sjálfvirkt svar
automaattinen vastaus, automaattivastaus, poissaoloilmoitus, poissaolo, poissa, poissa toimistolta, en ole paikalla, lomalla
automatyczna odpowiedź, odpowiedź automatyczna, autoodpowiedź, automatyczna odpowiedz, nieobecność, nieobecność w biurze
nieobecny, nieobecna, poza biurem, jestem poza biurem, na urlopie
automatická odpověď, automaticka odpoved, automatická odpoveď, mimo kancelář, mimo kanceláře, mimo kancelárie, mimo kanceláriu
nepřítomnost, neprítomnosť, nejsem v kanceláři, nie som v kancelárii, jsem mimo kancelář
automatikus válasz, automatikus üzenet, házon kívül, irodán kívül, távollét, távolléti értesítés, távol vagyok
nem vagyok az irodában, szabadságon, szabadságon vagyok
răspuns automat, mesaj automat, absent de la birou, absență de la birou, în afara biroului, nu sunt la birou, în concediu, absență
автоматичен отговор, извън офиса, отсъствие, отсъствие от офиса, в отпуск
automatski odgovor, аутоматски одговор, автоматски одговор, izvan ureda, izvan kancelarije, van ureda, van kancelarije, odsutan
odsutna, odsutnost, na odmoru, odsustvo, samodejni odgovor, avtomatski odgovor, odsoten, odsotna, odsotnost
odsoten iz pisarne, zunaj pisarne, izven pisarne, ni v pisarni, na dopustu
automatinis atsakymas, automatinis pranešimas, nesu biure, ne biure, ne darbe, atostogos, atostogauju
automātiskā atbilde, automātiska atbilde, ārpus biroja, prombūtne, prombūtnē, neesmu birojā, atvaļinājumā
automaatvastus, automaatne vastus, automaatne vastuskiri, kontorist väljas, kontorist eemal, puhkusel
αυτόματη απάντηση, αυτόματη απόκριση, αυτοματοποιημένη απάντηση, εκτός γραφείου, απουσία από το γραφείο, απουσία, σε άδεια
otomatik yanıt, otomatik cevap, otomatik yanit, ofis dışında, ofis dışındayım, büro dışında, iş yerinde değil, izinliyim, izindeyim
автоматический ответ, автоматическое уведомление, автоответ, автоответчик, вне офиса, нет на рабочем месте, отсутствие
отсутствие на рабочем месте, отсутствую, я в отпуске, в отпуске, ваш запрос получен
автоматична відповідь, автовідповідь, автоматичне повідомлення, поза офісом, немає на робочому місці, відсутність, відсутній
відсутня, у відпустці, я у відпустці, аўтаматычны адказ, автоматты жауап, avtomatik cavab, ავტომატური პასუხი
תשובה אוטומטית, מענה אוטומטי, תגובה אוטומטית, מחוץ למשרד, אני מחוץ למשרד, לא במשרד, הודעת היעדרות, בחופשה
رد تلقائي, الرد التلقائي, رد آلي, الرد الآلي, رسالة تلقائية, خارج المكتب, أنا خارج المكتب, في إجازة, پاسخ خودکار
การตอบกลับอัตโนมัติ, ตอบกลับอัตโนมัติ, ข้อความตอบกลับอัตโนมัติ, ไม่อยู่ที่สำนักงาน, ไม่อยู่ที่ออฟฟิศ, ไม่อยู่, ลาพักร้อน
trả lời tự động, thư trả lời tự động, phản hồi tự động, vắng mặt, vắng mặt tại văn phòng, không có mặt tại văn phòng, ngoài văn phòng
balasan otomatis, jawaban otomatis, pesan otomatis, di luar kantor, tidak di kantor, sedang cuti, balasan automatik, di luar pejabat
自动答复, 自动回复, 自動回覆, 自動回復, 自動答覆, 自动应答, 自动响应, 不在办公室, 不在辦公室, 外出, 外出通知, 休假中, 休假, 请假, 請假, 邮件自动回复
自動応答, 自動返信, 自動回答, 自動送信, 不在, 不在です, 不在通知, 不在のお知らせ, 不在連絡, 外出中, 休暇中, 休暇のお知らせ, 受付完了
자동 회신, 자동회신, 자동 응답, 자동응답, 자동 답장, 자동답장, 부재중, 부재 중, 부재중 응답, 부재중 알림, 부재 알림, 자리 비움, 휴가 중, 휴가중
स्वचालित उत्तर, स्वतः जवाब, कार्यालय से बाहर, tugon na awtomatiko, majibu ya otomatiki
"""
# what follows somebody's name
_SENTENCES = """
is out of the office, is out of office, is currently out of the office, is currently out of office, is away from the office, is on vacation
ist außer haus, ist derzeit außer haus, ist abwesend, ist derzeit abwesend, ist nicht im büro, ist derzeit nicht im büro, ist im urlaub
est absent, est absente, est en congé, est en congés, está fuera de la oficina, está ausente, è fuori sede, è fuori ufficio, è assente
está fora do escritório, is afwezig, is niet aanwezig, is niet op kantoor, är inte på kontoret, är frånvarande, er ikke på kontoret
er fraværende, jest poza biurem, jest nieobecny, jest nieobecna
"""
MAX_NAME = 60  # characters of a name before such a sentence
BRACKETED = re.compile(r"[(\[【<]\s?")
# what may follow a beginning: nothing, a mark, a prefix of an answer, or until when
_UNTIL = (
    r"(?:until|till|from|bis|vom|ab|jusqu|hasta|fino|dal|ate|tot|t\.o\.m|til|fra|do|od|до|с|з)\b"
)
_ANSWER = r"(?:re|aw|fw|fwd|sv|vs|antw|rv|rif|res|odp|ynt|atb|ha|tr|wg) ?:"
AFTER = re.compile(
    rf"\W*$|\s?[:;|/()\[\]<>\"“”„«»!.。、【】~]|\s?[-–—]{{1,3}}\s|\s\W?\d|\s(?:{_UNTIL}|{_ANSWER})"
)
END = re.compile(rf"\W*$|\s\(|\s{_UNTIL}")


def _listed(text: str) -> tuple[str, ...]:
    phrases = {folded(each.strip()) for each in text.replace("\n", ",").split(",")} - {""}
    return tuple(sorted(phrases, key=lambda phrase: (-len(phrase), phrase)))


BEGINNINGS, SENTENCES = _listed(_BEGINNINGS), _listed(_SENTENCES)


@lru_cache(maxsize=8)
def _beginnings(added: tuple[str, ...]) -> tuple[str, ...]:
    return (*filter(None, map(folded, map(str.strip, added))), *BEGINNINGS)


def is_automatic_subject(subject: str, added: tuple[str, ...] = ()) -> bool:
    """Whether the subject is that of an automatic answer, and not of a person's answer to one;
    `added` are further beginnings.
    """
    plain = " ".join(folded(subject).split())
    start = BRACKETED.match(plain)
    plain = plain[start.end() :] if start else plain.lstrip("*!#>«»\"'“”„-–—=~ ")
    known = _beginnings(added)
    if plain.startswith(known) and any(
        plain.startswith(each) and AFTER.match(plain, len(each)) for each in known
    ):
        return True
    return any(_says(plain, f" {sentence}") for sentence in SENTENCES)


def _says(plain: str, sentence: str) -> bool:
    at = plain.find(sentence, 1, MAX_NAME + len(sentence))
    return at > 0 and bool(END.match(plain, at + len(sentence)))
