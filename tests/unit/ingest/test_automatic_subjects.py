"""Subjects of automatic answers in the languages of mail programs and servers, and what people write
that looks like them.
"""

import pytest

from services.ingest.mailbox.automatic_subjects import is_automatic_subject

# of Outlook and Exchange unless said otherwise
AUTOMATIC = [
    "Automatic reply: Why line 3 stops", "Automatische Antwort: Hallo", "Réponse automatique : Bonjour", "Respuesta automática: Hola",
    "Risposta automatica: Ciao", "Resposta automática: Olá", "Automatisch antwoord: Hoi", "Automatiskt svar: Hej", "Automatisk svar: Hej",
    "Autosvar: Hej", "Automaattinen vastaus: Hei", "Automatyczna odpowiedź: Cześć", "Odpowiedź automatyczna: Cześć",
    "Automatická odpověď: Dobrý den", "Automatická odpoveď: Dobrý deň", "Automatikus válasz: Szia", "Răspuns automat: Salut",
    "Автоматичен отговор: Здравей", "Automatski odgovor: Bok", "Аутоматски одговор: Здраво", "Samodejni odgovor: Zdravo",
    "Automatinis atsakymas: Labas", "Automātiskā atbilde: Sveiki", "Automaatvastus: Tere", "Αυτόματη απάντηση: Γεια", "Otomatik yanıt: Merhaba",
    "OTOMATİK YANIT: Merhaba", "Автоматический ответ: Привет", "Автоматична відповідь: Привіт", "תשובה אוטומטית: שלום", "رد تلقائي: مرحبا",
    "การตอบกลับอัตโนมัติ: สวัสดี", "Trả lời tự động: Xin chào", "Balasan otomatis: Halo", "自动答复: 你好", "自动回复：你好", "自動回覆: 你好",
    "自動応答: こんにちは", "自動返信：お問い合わせ", "【自動返信】お問い合わせありがとうございます", "자동 회신: 안녕하세요", "자동 응답: 안녕하세요", "स्वचालित उत्तर: नमस्ते",
    # of people's own absences
    "Out of Office", "Out of office until 9 May", "Out of Office Re: Why line 3 stops", "Out of Office: back on Monday",
    "OOO until Monday", "I am out of the office", "Ann Ames is out of the office (returning 9 May)", "Vacation reply",
    "Abwesenheitsnotiz", "Abwesend bis 9.5.", "Bruno Berger ist außer Haus", "Absence du bureau", "Fuera de la oficina: vuelvo el lunes",
    "Fuori sede", "Ausência temporária", "Afwezig: tot maandag", "Frånvaro: tillbaka måndag", "Ikke til stede: mandag", "Poissa: palaan maanantaina",
    "Nieobecność: wracam w poniedziałek", "Mimo kancelář", "Házon kívül", "Absent de la birou", "Извън офиса", "Odsutan: vraćam se",
    "Odsoten", "Εκτός γραφείου", "Ofis dışında", "Нет на рабочем месте: вернусь", "Поза офісом", "מחוץ למשרד", "خارج المكتب", "Vắng mặt", "Di luar kantor",
    "不在办公室", "外出", "不在のお知らせ", "부재중: 월요일 복귀",
    # of help desks and other servers
    "[Auto-Reply] Re: Why line 3 stops", "Auto-Reply: Hello", "AutoReply", "[Request received] Why line 3 stops", "Ticket received - Why line 3 stops",
    "Automated response", "Autoresponder: thanks",
]  # fmt: skip
PEOPLES = [
    "Re: Out of office furniture", "Out of office furniture", "Out of office hours support: how much?", "AW: Abwesenheitsnotiz: Hallo",
    "Re: Automatic reply: Hello", "Automatic replies in your product", "Automatic reply buttons: a question", "Abwesenheitsplanung mit Ihrem Werkzeug",
    "Automation of line 3", "On leave management", "My boss is out of office, so I decide", "Absence of spare parts", "Absenceplanning",
    "Odpowiedź na pytanie", "自動化について", "自动化生产线", "不在庫の件", "Ofis mobilyaları", "Ответ на вопрос", "Vacation planning of the crew",
    "Thank you for your email!", "Request received, but nothing happened", "Why line 3 stops", "",
]  # fmt: skip


@pytest.mark.parametrize("subject", AUTOMATIC)
def test_the_subject_of_an_automatic_answer_is_known_in_its_language(subject: str) -> None:
    """I10: where no header says it."""
    assert is_automatic_subject(subject)


@pytest.mark.parametrize("subject", PEOPLES)
def test_what_people_write_is_theirs_whatever_words_it_has(subject: str) -> None:
    """I10: a beginning counts where the subject ends with it, or a mark follows."""
    assert not is_automatic_subject(subject)


def test_a_playbook_adds_beginnings() -> None:
    assert not is_automatic_subject("Fort vum Büro: moien")
    assert is_automatic_subject("Fort vum Büro: moien", ("fort vum büro",))
    assert not is_automatic_subject("Fort vum Büro iessen", ("fort vum büro",))
