"""What a word for consent means: yes, no, that somebody has left, nothing, or not understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.contracts.consent_words import (
    BLANK,
    KNOWN_WORDS,
    NO,
    REFUSED,
    YES,
    Answer,
    ConsentWords,
)

SAID = {
    Answer.YES: [
        "yes", "Yes!", "YES", " y ", "on", "On", "true", True, 1, 1.0, "1", "1.0", "x", "[x]", "✓", "✔️", "☑", "ok",
        "I agree", "I agree to receive emails.", "Yes, send me news", "Yes please", "opted-in", "Opted in", "subscribed",
        "newsletter", "Ja", "ja, gerne", "Einverstanden", "Ich stimme zu", "Oui", "J’accepte", "d'accord", "Sí", "acepto",
        "Acepto recibir correos", "accetto", "Sim", "aceito", "akkoord", "tak", "Wyrażam zgodę", "ano", "souhlasím",
        "jag samtycker", "jeg samtykker", "kyllä", "igen", "da", "ναι", "Evet", "kabul ediyorum", "Да", "згоден", "是", "同意",
        "はい", "同意します", "예", "동의합니다", "نعم", "כן", "jā", "có", "setuju",
        ["yes"], ["0", "1"], ["", "on"], ["false", "true"], ["true", "false"], ["email", "yes"],
    ],
    Answer.NO: [
        "no", "No thanks", "NO!", "n", "off", "false", False, 0, "0", "✗", "I do not agree", "I don't agree", "Not consented",
        "not given", "declined", "Nein", "nein danke", "Nein, danke!", "Ich stimme nicht zu", "Ich möchte keine E-Mails", "non",
        "Non merci", "je n’accepte pas", "ne souhaite pas recevoir", "no acepto", "não", "Não, obrigado", "nee", "nie",
        "Nie zgadzam się", "ne", "nesouhlasím", "nej", "nei takk", "ei", "nem", "nu", "όχι", "hayır", "HAYIR",
        "kabul etmiyorum", "нет", "не согласен", "ні", "否", "不同意", "いいえ", "同意しません", "아니요", "동의하지 않습니다",
        "لا", "לא", "không", "tidak", ["1", "no"], ["yes", "I do not agree"],
    ],
    Answer.REFUSED: ["unsubscribed", "Opted out", "opt-out", "do not e-mail", "abgemeldet", "désabonné", "退订"],
    Answer.BLANK: ["", " ", None, "-", "–", "n/a", "null", [], [None], ["", ""]],
    Answer.UNKNOWN: [
        "maybe", "vielleicht", "peut-être", "ask me later", "Yes, but later", "Ja, aber nur per Telefon", "phone",
        "I agree unless it is weekly", "x" * 300, 7, 0.5, {"email": True}, ["phone"],
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "value"), [(answer, value) for answer, values in SAID.items() for value in values]
)
def test_what_a_word_for_consent_says(answer: Answer, value: object) -> None:
    """I7, N6: only a known yes permits, in whatever language."""
    assert KNOWN_WORDS.read(value).answer is answer


def test_no_word_stands_in_two_lists() -> None:
    lists = (YES, NO, REFUSED, BLANK)
    assert sum(map(len, lists)) == len(frozenset().union(*lists))


def test_a_playbook_adds_words_and_what_a_box_is_declared_to_send_comes_first() -> None:
    words = ConsentWords(yes=["Moien, gär"], no=["Emol net"])
    assert words.read("moien gär").answer is Answer.YES
    assert words.read("EMOL NET").answer is Answer.NO
    assert KNOWN_WORDS.read("emol net").answer is Answer.UNKNOWN
    assert KNOWN_WORDS.read("list-7", ["List 7"]).answer is Answer.YES
    assert ConsentWords(no=["ok"]).read("OK").answer is Answer.NO


def test_what_is_not_understood_is_named_and_the_rest_of_a_group_counts() -> None:
    """A group of boxes: one is a known yes, the other a channel that is not."""
    reading = KNOWN_WORDS.read(["newsletter", "phone"])
    assert (reading.answer, reading.unknown) == (Answer.YES, ("phone",))


@given(st.text() | st.lists(st.text(), max_size=3) | st.floats() | st.integers())
def test_whatever_stands_there_has_an_answer(value: object) -> None:
    reading = KNOWN_WORDS.read(value)
    assert (reading.answer is Answer.UNKNOWN) <= bool(reading.unknown)
