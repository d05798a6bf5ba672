"""Inbound mail: people's answers, machines' answers, bounces, complaints and refusals, from mails
as programs write them.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.ingest.mailbox.automatic_subjects import is_automatic_subject
from services.ingest.mailbox.inbound import MAX_MAIL, read
from services.ingest.mailbox.phrases import is_objection
from services.ingest.mailbox.text import own_words, without_markup
from services.ingest.sources.bounces import kind_of
from services.ingest.sources.contract import Item, Refused
from services.shared.contracts.consent import consents_of

MAILS = Path(__file__).parents[2] / "data" / "mail"
NOW = datetime(2026, 11, 3, 14, tzinfo=UTC)
TOUCH = "3f2b8c1e-5d47-5a90-9c1b-7a6e4d2f1b08"
HEAD = (
    "From: Ann <ann@acme.example>\nDate: Tue, 3 Nov 2026 10:00:00 +0000\nMessage-ID: "
    "<1@acme.example>\n"
)


def golden(name: str) -> list[Item | Refused]:
    return read((MAILS / f"{name}.eml").read_bytes(), NOW)


def one(mail: str | bytes) -> Item:
    [item] = read(mail if isinstance(mail, bytes) else mail.encode(), NOW)
    assert isinstance(item, Item), item
    return item


def answer(text: str, head: str = HEAD) -> list[Item | Refused]:
    return read(
        f"{head}Subject: Re: x\nIn-Reply-To: <{TOUCH}@ours.example>\n\n{text}".encode(), NOW
    )


ANSWERS = {
    "gmail_top": (
        "Ann.Ames@acme.example",
        "That is us exactly – line 3 stops twice a week.\n\nCould we talk on Thursday?\n\nAnn",
    ),
    "gmail_html_only": (
        "juergen@acme.example",
        "Gern & bald:\nnächste Woche.\n\nPS: auch am Freitag.",
    ),
    "outlook_top": (
        "bruno.berger@contoso.example",
        "Guten Tag,\n\nbitte schicken Sie mir die Zahlen für zwei Linien.\n\nMit freundlichen "
        "Grüßen\nBruno Berger",
    ),
    "thunderbird_bottom": ("carla@conti.example", "The labeller.\n\nAnd the capper, a little."),
    "iphone_short": ("dora@dahl.example", "Yes please"),
    "lotus_reply": ("Egon.Eder@eder.example", "Ja, gerne. Bitte rufen Sie mich an."),
    "forwarded": ("viktor@voss.example", "Is this meant for our plant too?"),
    "encrypted": ("yves@yager.example", None),
    "several_authors_bad_date": ("anton@zahn.example", "We both agree: café, Thursday."),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_persons_answer_is_joined_to_its_touch_and_keeps_only_their_own_words(name: str) -> None:
    """I10: In-Reply-To or References; quotations and signatures are not theirs."""
    [item] = golden(name)
    assert isinstance(item, Item)
    email, text = ANSWERS[name]
    assert (item.type, item.machine, item.touch_id, item.email) == (
        "email_replied",
        False,
        TOUCH,
        email,
    )
    assert (item.properties.get("text"), item.consent) == (text, ())


@pytest.mark.parametrize(
    ("name", "email", "touch"),
    [
        ("oof_exchange", "ida.ivers@contoso.example", TOUCH),
        ("oof_vacation1", "jan@janssen.example", TOUCH),
        ("oof_lotus", "Karl.Kern@kern.example", ""),
        ("oof_german", "lena.loewe@loewe.example", TOUCH),
        ("oof_french", "marc@martin.example", ""),
        ("oof_spanish", "noelia@nieto.example", ""),
        ("ticket_acknowledged", "support@otto.example", TOUCH),
    ],
)
def test_what_a_machine_answers_weighs_nothing_and_refuses_nothing(
    name: str, email: str, touch: str
) -> None:
    """I10: auto-replies, whatever their text says of removing."""
    [item] = golden(name)
    assert isinstance(item, Item)
    assert (item.type, item.machine, item.email, item.touch_id) == (
        "email_replied",
        True,
        email,
        touch,
    )
    assert consents_of(item) == ()


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated (vacation)",
        "X-Autoreply: yes",
        "X-Autorespond: 1",
        "Precedence: bulk",
        "Precedence: auto_reply",
        "X-Loop: ann@acme.example",
        "Return-Path: <>",
        "X-MS-Exchange-Generated-Message-Source: Mailbox Rules Agent",
        "Content-Type: multipart/report; report-type=x",
    ],
)
def test_each_mark_of_a_machine_is_enough(header: str) -> None:
    """I10: as programs have marked their mail since before RFC 3834."""
    [item] = answer("Back on Monday.", f"{HEAD}{header}\n")
    assert isinstance(item, Item)
    assert item.machine


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: no",
        "X-Auto-Response-Suppress: All",
        "Precedence: normal",
        "X-Autoreply: no",
        "X-Priority: 1",
    ],
)
def test_what_people_s_programs_add_is_no_mark_of_a_machine(header: str) -> None:
    """I10: Outlook asks others for silence in people's own mails."""
    [item] = answer("Yes.", f"{HEAD}{header}\n")
    assert isinstance(item, Item)
    assert not item.machine


@pytest.mark.parametrize(
    ("subject", "automatic"),
    [
        ("Automatic reply: Hello", True),
        ("Auto: Out of Office", False),
        ("Out of office: Hello", True),
        ("OOO until Monday", True),
        ("Abwesenheitsnotiz: Hallo", True),
        ("Automatische Antwort: Hallo", True),
        ("Absence du bureau : Bonjour", True),
        ("Respuesta automática: Hola", True),
        ("Risposta automatica: Ciao", True),
        ("Automatisch antwoord: Hoi", True),
        ("Autosvar: Hej", True),
        ("Ann Ames is out of the office", True),
        ("Autom. svar", False),
        ("自動応答: こんにちは", True),
        ("Re: Automatic reply: Hello", False),
        ("AW: Abwesenheitsnotiz: Hallo", False),
        ("Re: Out of office chairs", False),
        ("Automation of line 3", False),
        ("", False),
    ],
)
def test_the_subject_of_an_absence_gives_a_machine_away_but_an_answer_to_one_is_a_persons(
    subject: str, automatic: bool
) -> None:
    assert is_automatic_subject(subject) is automatic


@pytest.mark.parametrize(
    ("name", "type_", "email", "properties"),
    [
        (
            "bounce_postfix",
            "email_bounced",
            "quentin@quarry.example",
            {"type": "hard", "status": "5.1.1"},
        ),
        (
            "bounce_exchange_full",
            "email_bounced",
            "rosa@rivers.example",
            {"type": "soft", "status": "5.2.2"},
        ),
        ("bounce_qmail", "email_bounced", "", {"type": "hard", "status": "5.1.1"}),
        (
            "delayed_sendmail",
            "email_bounced",
            "tilda@tarn.example",
            {"type": "soft", "status": "4.4.1"},
        ),
        ("complaint_arf", "email_complained", "ulla@isp.example", {"feedback": "abuse"}),
    ],
)
def test_reports_are_about_the_recipient_of_our_mail(
    name: str, type_: str, email: str, properties: dict[str, str]
) -> None:
    """I10, N6: a hard bounce and a complaint withdraw consent; what may pass does not."""
    [item] = golden(name)
    assert isinstance(item, Item)
    assert (item.type, item.email, item.touch_id, item.machine) == (type_, email, TOUCH, False)
    assert properties.items() <= item.properties.items()
    lasting = properties.get("type") == "hard" or type_ == "email_complained"
    assert bool(consents_of(item)) is lasting


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        ("5.1.1", "", "hard"), ("5.1.10", "", "hard"), ("5.2.1", "", "hard"), ("5.4.1", "",
        "hard"), ("5.4.310", "", "hard"),
        ("5.0.0", "550 no such user here", "hard"), ("", "550 Mailbox does not exist", "hard"),
        ("5.1.8", "", "soft"),
        ("5.2.2", "", "soft"), ("5.7.1", "blocked by policy", "soft"), ("4.2.1", "", "soft"),
        ("4.4.7", "user unknown", "soft"),
        ("5.3.4", "", "soft"), ("", "", "soft"),
    ],
)  # fmt: skip
def test_only_an_address_where_nobody_is_bounces_hard(status: str, reason: str, kind: str) -> None:
    """N6: a full mailbox and a blocked server are no refusals."""
    assert (kind_of(status, reason) or "soft") == kind


def test_a_report_of_success_is_a_delivery() -> None:
    mail = (
        (MAILS / "bounce_postfix.eml")
        .read_text()
        .replace("Action: failed\nStatus: 5.1.1", "Action: relayed\nStatus: 2.1.5")
    )
    delivered = one(mail)
    assert (delivered.type, delivered.email, delivered.touch_id) == (
        "email_delivered",
        "quentin@quarry.example",
        TOUCH,
    )


def test_a_bounce_in_prose_does_not_take_an_ip_address_for_a_status() -> None:
    mail = (
        "From: MAILER-DAEMON@x.example\n\nHost 198.5.1.1 is busy. Later: "
        f"4.4.1\n\nMessage-ID: <{TOUCH}@ours.example>\n"
    )
    assert one(mail).properties["status"] == "4.4.1"
    assert one(mail).properties["type"] == "soft"


def test_a_report_without_the_original_is_joined_by_what_it_answers() -> None:
    mail = (
        (MAILS / "bounce_postfix.eml")
        .read_text()
        .partition("--4XyZ0m2kq1z9r.1793782932/out.millwarden.example\nContent-Description: Und")
    )
    [item] = read(f"In-Reply-To: <{TOUCH}@millwarden.example>\n{mail[0]}".encode(), NOW)
    assert isinstance(item, Item)
    assert (item.type, item.touch_id, item.email) == (
        "email_bounced",
        TOUCH,
        "quentin@quarry.example",
    )


@pytest.mark.parametrize(
    ("name", "kind"), [("backscatter", "not-ours"), ("list_mail", "bulk-mail")]
)
def test_what_is_not_about_us_becomes_nobodys_event(name: str, kind: str) -> None:
    """A forged bounce cannot silence a stranger, a newsletter makes no lead."""
    [item] = golden(name)
    assert isinstance(item, Refused)
    assert (item.reject.kind, bool(item.reject.remedy)) == (kind, True)


def test_a_strangers_mail_is_no_answer() -> None:
    """Advertisement to our address does not become a warm lead; its own way out is not a
    refusal.
    """
    [item] = golden("strangers_offer")
    assert isinstance(item, Item)
    assert (item.type, item.consent) == ("email_received", ())
    [spam] = read(f"{HEAD}X-Spam-Flag: YES\nSubject: Hello\n\nBuy".encode(), NOW)
    assert isinstance(spam, Refused)


def test_our_own_mail_coming_back_is_not_an_answer() -> None:
    [item] = answer("Hello", f"{HEAD}X-Ripeline-Touch: {TOUCH}\n")
    assert isinstance(item, Refused)
    assert item.reject.kind == "own-mail"


def test_an_answer_to_an_invitation_is_no_answer_to_a_mail() -> None:
    [item] = golden("calendar_accepted")
    assert isinstance(item, Item)
    assert (item.type, item.properties["answer"]) == ("calendar_answered", "accepted")


def test_a_wish_to_be_left_alone_is_a_refusal_by_the_writer_and_by_the_recipient() -> None:
    """I10, N6: many answer from another address than the one that was written to."""
    written, received = golden("remove_me")
    assert isinstance(written, Item)
    assert isinstance(received, Item)
    assert (written.type, written.email, written.touch_id) == (
        "unsubscribed",
        "fritz.private@mail.example",
        TOUCH,
    )
    assert (received.type, received.email, received.touch_id) == ("consent_withdrawn", "", TOUCH)
    assert {consent.state for item in (written, received) for consent in consents_of(item)} == {
        "withdrawn"
    }
    assert written.id != received.id


def test_a_mail_programs_unsubscribe_button_needs_no_words() -> None:
    """I10: the subject says it."""
    [item] = golden("mailto_unsubscribe")
    assert isinstance(item, Item)
    assert (item.type, item.email) == ("unsubscribed", "gina@green.example")


@pytest.mark.parametrize("name", ["group_unsubscribe", "list_unsubscribe_alone"])
def test_a_persons_refusal_counts_whatever_list_or_group_handed_it_on(name: str) -> None:
    """I10, N6: Precedence, List-Id and X-Loop say how a mail came, not who wrote it."""
    written, *_ = golden(name)
    assert isinstance(written, Item)
    assert (written.type, written.machine) == ("unsubscribed", False)
    assert [consent.state for consent in consents_of(written)] == ["withdrawn"]


@pytest.mark.parametrize(
    "header",
    [
        "Precedence: list",
        "Precedence: bulk",
        "Precedence: junk",
        "X-Loop: a@b.de",
        "List-Id: <a.b>",
    ],
)
def test_no_header_of_a_list_hides_a_refusal(header: str) -> None:
    """I10: those that say that a program wrote do."""
    for head in (f"{HEAD}{header}\n", f"{HEAD}{header}\nPrecedence: list\n"):
        assert [
            item.type for item in answer("Unsubscribe me.", head) if isinstance(item, Item)
        ] == [
            "unsubscribed",
            "consent_withdrawn",
        ]
        [machine] = answer("Unsubscribe me.", f"{head}Auto-Submitted: auto-replied\n")
        assert isinstance(machine, Item)
        assert (machine.type, machine.machine) == ("email_replied", True)


def test_an_answer_through_a_group_is_a_persons_and_a_newsletter_is_nobodys() -> None:
    """I10: the footer of a newsletter offers others to leave."""
    [item] = golden("group_answer")
    assert isinstance(item, Item)
    assert (item.type, item.machine, item.touch_id) == ("email_replied", False, TOUCH)
    [letter] = golden("newsletter_footer")
    assert isinstance(letter, Refused)
    assert letter.reject.kind == "bulk-mail"


def test_a_question_about_somebody_else_and_a_footer_for_others_are_no_refusal() -> None:
    """I10: nor is what stands in the quoted part."""
    [item] = golden("question_about_unsubscribing")
    assert isinstance(item, Item)
    assert (item.type, item.consent) == ("email_replied", ())


REFUSALS = [
    "Please remove me from your list.",
    "unsubscribe",
    "UNSUBSCRIBE!!",
    "Stop.",
    "Please take me off your mailing list, thanks",
    "please stop mailing me",
    "Stop sending me these emails",
    "Don’t contact me again",
    "do not email me any more",
    "I no longer wish to receive your newsletter",
    "I don't want any more emails from you",
    "No more emails please",
    "Hi Ann, please unsubscribe",
    "How do I unsubscribe?",
    "Could you please unsubscribe me from this",
    "I would like to opt out",
    "Remove ann@acme.example from your list",
    "Delete my data.",
    "I withdraw my consent to marketing",
    "Leave me alone",
    "Interesting, but please\ntake me off your\nlist.",
    "Not interested. Please remove me.",
    "I'm not interested, stop writing to me",
    "Bitte melden Sie mich vom Newsletter ab",
    "Bitte nehmen Sie mich aus Ihrem Verteiler",
    "Bitte keine weiteren Mails.",
    "Ich möchte keine E-Mails mehr erhalten",
    "Bitte tragen Sie mich aus",
    "Löschen Sie meine Daten",
    "Bitte abmelden",
    "Bitte meine Adresse aus dem Verteiler löschen",
    "Schreiben Sie mir bitte nicht mehr.",
    "Veuillez me désabonner",
    "Merci de me retirer de votre liste",
    "Désabonnez-moi svp",
    "Ne m'envoyez plus de mails",
    "Desabonnez-moi",
    "Je ne souhaite plus recevoir vos e-mails",
    "Por favor, darme de baja",
    "No me envíen más correos",
    "no quiero recibir mas correos",
    "Eliminen mi correo de la lista",
    "Cancellatemi dalla lista",
    "Non desidero più ricevere le vostre mail",
    "Graag uitschrijven",
    "Schrijf mij uit van de nieuwsbrief",
    "Geen mails meer graag",
    "Não quero mais receber e-mails",
    "Removam-me da lista",
]
REFUSALS_ELSEWHERE = [
    "Avregistrera mig, tack", "Jag vill inte ha fler utskick", "Afmeld mig venligst", "Jeg ønsker ikke at modtage flere mails",
    "Vennligst meld meg av listen", "Poistakaa minut listalta", "En halua enää sähköposteja", "Proszę mnie wypisać z listy",
    "Nie chcę otrzymywać newslettera", "Proszę o usunięcie mojego adresu", "Odhlaste mě prosím", "Nechci dostávat vaše e-maily",
    "Neposielajte mi už nič", "Leiratkozom", "Nem kérek több hírlevelet", "Kérem, töröljenek a listáról", "Vă rog să mă dezabonați: dezabonați-mă",
    "Nu mai doresc să primesc mesaje", "Lütfen beni listeden çıkarın", "Artık e-posta istemiyorum", "Παρακαλώ διαγράψτε με από τη λίστα",
    "Δεν επιθυμώ να λαμβάνω μηνύματα", "Отпишите меня от рассылки", "Как отписаться?", "Не присылайте мне больше писем", "Прошу отписаться",
    "Відпишіть мене, будь ласка", "Не хочу отримувати ваші листи", "Отпишете ме от списъка", "Odjavite me s liste", "Ne želim više primati mailove",
    "Ne pošiljajte mi več", "Išbraukite mane iš sąrašo", "Lūdzu, izņemiet mani no saraksta", "Palun eemaldage mind listist",
    "הסירו אותי מרשימת התפוצה", "אני לא מעוניין לקבל הודעות", "ألغوا اشتراكي من فضلكم", "لا أريد تلقي رسائل منكم", "Vui lòng hủy đăng ký nhận email",
    "Tolong hapus saya dari daftar", "Berhenti berlangganan", "ยกเลิกการรับข่าวสาร", "请退订", "不要再发邮件给我。", "取消訂閱", "請勿再寄信給我",
    "配信を停止してください。", "メールを送らないでください", "수신거부", "더 이상 메일을 보내지 마세요", "구독 취소해 주세요",
]  # fmt: skip
NO_REFUSALS_ELSEWHERE = [
    "Vi vill inte ha fler stopp på linjen", "Vi vil ikke have flere stop", "En halua lisää seisokkeja", "Jeg melder mig til webinaret",
    "Proszę o ofertę", "Chci dostávat ceník", "Nem kérek kávét, de a demót igen", "Aş vrea o ofertă", "Beni arayabilir misiniz?",
    "Στείλτε μου την προσφορά", "Пришлите, пожалуйста, цены", "Надішліть ціни", "שלחו לי הצעת מחיר", "أرسلوا لي العرض", "Gửi cho tôi báo giá",
    "Tolong kirim penawaran", "ส่งใบเสนอราคาให้ฉัน", "请发报价给我。", "見積もりを送ってください。", "견적서를 보내 주세요",
    "配信停止をご希望の方はこちら", "如果您不想再收到此类邮件，请退订",
]  # fmt: skip
NO_REFUSALS = [
    "how do I unsubscribe my colleague from the demo?",
    "Can we remove me from the demo on Monday and add Bob?",
    "Please don't remove me from your list!",
    "How does your tool handle unsubscribe requests?",
    "Does it let customers unsubscribe?",
    "We had to stop sending manual reports every Friday",
    "What are your unsubscribe rates?",
    "Our legal team asks how opt out works in your product",
    "I don't want to miss the webinar",
    "Do not contact me before Monday please",
    "Not interested right now, maybe next year",
    "Yes, please send me the paper.",
    "If you no longer wish to receive emails from us, unsubscribe here",
    "Can you delete the duplicates in our database?",
    "Melden Sie mich bitte für das Webinar an",
    "Bitte melden Sie mich vom Webinar am Montag ab",
    "Ich melde mich nächste Woche",
    "Könnten Sie mich bitte anrufen?",
    "Wir haben keine Zeit mehr vor Weihnachten",
    "Pouvez-vous me rappeler demain ?",
    "¿Pueden enviarme más información?",
    "no me han enviado la oferta",
    "Non ho ricevuto la mail",
    "Ik meld me volgende week",
    "Can you stop by our office next week?",
    "I never received your mail",
    "We stop the line for maintenance every Sunday",
    "Take me through the numbers",
    "Wir nehmen uns das mal vor",
    "",
]


@pytest.mark.parametrize("text", REFUSALS + REFUSALS_ELSEWHERE)
def test_plain_words_are_a_refusal(text: str) -> None:
    """I10: in the languages of leads, with and without accents."""
    assert is_objection("Re: Four bottlers", text)


@pytest.mark.parametrize("text", NO_REFUSALS + NO_REFUSALS_ELSEWHERE)
def test_other_words_are_not(text: str) -> None:
    """I10: a lead may ask about lists, appointments and colleagues."""
    assert not is_objection("Re: Four bottlers", text)


@pytest.mark.parametrize(
    ("mail", "own"),
    [
        ("Yes.\n\nOn Mon, 2 Nov 2026, Ann\n<ann@x.example> wrote:\n\nHello", "Yes."),
        ("Yes.\n-----Ursprüngliche Nachricht-----\nHello", "Yes."),
        ("Yes.\n________________________________\nFrom: Ann\nSent: Monday\n\nHello", "Yes."),
        ("Yes.\n*From:* Ann <a@x.example>\n*Sent:* Monday\nHello", "Yes."),
        ("Ja.\n2026年11月2日 10:00 Ann <a@x.example>:\n> Hello", "Ja."),
        ("> Hello\nYes.\n> And?\nNo.", "Yes.\nNo."),
        ("Yes.\n-- \nAnn\n+49 1", "Yes."),
        ("My answers:\n\n> One?\n\nYes.", "My answers:\n\nYes."),
        (
            "From: the line, we see 3 stops.\nNothing else.",
            "From: the line, we see 3 stops.\nNothing else.",
        ),
        (
            "On 3 November we start. She wrote: go.\nOk?",
            "On 3 November we start. She wrote: go.\nOk?",
        ),
        ("a\x00b\u202ec\r\nd", "abc\nd"),
    ],
)
def test_own_words_are_what_is_neither_quoted_nor_a_signature(mail: str, own: str) -> None:
    assert own_words(mail) == own


def test_markup_leaves_words_and_keeps_quotations_apart() -> None:
    page = (
        "<style>p{}</style><p>A "
        "&lt;b&gt;<br>C</p><blockquote><p>quoted</p></blockquote><!-- x --><script>1</script>D <3"
    )
    lines = [line for line in without_markup(page).splitlines() if line.strip(" >")]
    assert lines == ["A <b>", "C", "> quoted", "D <3"]


@pytest.mark.parametrize(
    "date",
    [
        "",
        "Date: yesterday\n",
        "Date: Thu, 1 Jan 1970 00:00:00 +0000\n",
        "Date: Fri, 1 Jan 2038 00:00:00 +0000\n",
        "Date: 99999999999\n",
    ],
)
def test_a_clock_that_is_wrong_leaves_the_time_of_receipt(date: str) -> None:
    assert one(f"From: a@b.de\n{date}Subject: Re: x\n\nYes").occurred_at is None
    right = one("From: a@b.de\nDate: Tue, 3 Nov 2026 10:00:00 +0100\nSubject: Re: x\n\nYes")
    assert right.occurred_at == datetime(2026, 11, 3, 9, tzinfo=UTC)


def test_a_wish_counts_from_its_arrival_and_no_earlier_permission_outlives_it() -> None:
    """N6: the writer's clock may be behind, and headers tell seconds only; the same whenever it is
    read.
    """
    head = "Received: from a by mx.ours.example; Tue, 3 Nov 2026 11:00:07 +0000\n" + HEAD
    for at in (NOW, NOW + timedelta(days=9)):
        [refused] = read(f"{head}Subject: unsubscribe\n\n".encode(), at)
        assert isinstance(refused, Item)
        assert refused.occurred_at == datetime(2026, 11, 3, 10, tzinfo=UTC)
        assert [consent.at for consent in refused.consent] == [
            datetime(2026, 11, 3, 11, 0, 8, tzinfo=UTC)
        ]
    [unknown] = read(b"From: a@b.de\nSubject: unsubscribe\n\n", NOW)
    assert isinstance(unknown, Item)
    assert [consent.at for consent in unknown.consent] == [None]
    undated = one(
        "Received: by mx; Tue, 3 Nov 2026 11:00:07 +0000\nFrom: a@b.de\nSubject: Re: x\n\nYes"
    )
    assert undated.occurred_at == datetime(2026, 11, 3, 11, 0, 7, tzinfo=UTC)


def test_the_same_mail_has_the_same_id_and_another_one_another() -> None:
    """Reliability: a mailbox read twice changes nothing."""
    with_id = [one(f"Received: {hop}\n{HEAD}Subject: Re: x\n\nYes").id for hop in ("a", "b")]
    assert with_id[0] == with_id[1]
    without = [one(f"From: a@b.de\nSubject: Re: x\n\n{text}").id for text in ("Yes", "Yes", "No")]
    assert without[0] == without[1] != without[2]


def test_without_a_sender_the_touch_tells_who_it_was() -> None:
    [item] = answer("Yes", "")
    assert isinstance(item, Item)
    assert (item.email, item.touch_id) == ("", TOUCH)
    [local] = answer("Yes", "From: root@localhost\n")
    assert isinstance(local, Item)
    assert local.email == ""


def test_of_a_thread_the_nearest_mail_of_ours_is_answered() -> None:
    older = TOUCH.replace("3f", "00")
    head = (
        f"{HEAD}Subject: Re: x\nReferences: <{older}@ours.example> <x@acme.example> "
        f"<{TOUCH}@ours.example>\n"
    )
    assert one(f"{head}In-Reply-To: <x@acme.example>\n\nYes").touch_id == TOUCH


def test_of_a_long_mail_the_beginning_is_read() -> None:
    [item] = answer("Yes.\n\n" + "> quoted\n" * MAX_MAIL)
    assert isinstance(item, Item)
    assert item.properties["text"] == "Yes."


def test_a_mail_of_a_thousand_boxes_is_refused_at_once() -> None:
    nested = "".join(
        f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(1000)
    )
    [item] = read(nested.encode(), NOW)
    assert isinstance(item, Refused)
    assert item.reject.kind == "unreadable-mail"


PIECES = st.sampled_from(
    [
        b"From: ",
        b"a@b.de",
        b"<",
        b">",
        b"\n",
        b"\r\n",
        b"\n\n",
        b" ",
        b"Subject: ",
        b"Re: ",
        b"=?utf-8?q?",
        b"=?x?b?",
        b"?=",
        b"Date: ",
        b"Content-Type: ",
        b"text/html",
        b"text/plain",
        b"multipart/report; report-type=",
        b"delivery-status",
        b"feedback-report",
        b"; boundary=b",
        b"--b",
        b"--b--",
        b"message/delivery-status",
        b"message/rfc822",
        b"message/feedback-report",
        b"; charset=",
        b"idna",
        b"utf-16",
        b"hex",
        b"\x00",
        b"\xff",
        b"Content-Transfer-Encoding: ",
        b"base64",
        b"quoted-printable",
        b"uuencode",
        b"In-Reply-To: <3f2b8c1e-5d47-5a90-9c1b-7a6e4d2f1b08@x>",
        b"Action: failed",
        b"Status: 5.1.1",
        b"text/calendar",
        b"METHOD:REPLY",
        b"<blockquote>",
        b"</p>",
        b"&#x110000;",
        b"X-Ripeline-Touch: ",
        b"Feedback-Type: abuse",
        b"(",
        b'"',
        b";",
        b":",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=40).map(b"".join)))
@example(b"Content-Type: text/plain; charset*0*=\xff''a\n\n\xff")
@example(b"Subject: =?utf-8?b?=?=\nFrom: =?utf-8?q?=ff?=\n\n")
@example(b"Date: Mon, 1 Jan 0001 00:00:00 +2359\nFrom: a@b.de\n\n")
def test_any_bytes_end_in_items_or_refusals(raw: bytes) -> None:
    """Bad input: whatever somebody mails to us."""
    found = read(raw, NOW)
    assert found
    for item in found:
        assert isinstance(item, Item | Refused)
        texts: list[Any] = (
            [item.email, *item.properties.values()]
            if isinstance(item, Item)
            else [item.reject.remedy]
        )
        assert all(
            isinstance(text, str) and text == text.encode("utf-8").decode() for text in texts
        )
