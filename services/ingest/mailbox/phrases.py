"""The phrases by which a mail is known as an automatic answer, or as an objection to more mails; in
the languages of most leads.
"""

import re
import unicodedata

_AUTOMATIC = r"""
auto(mat(ic|ed))?[\s-]*(re(ply|sponse|sponder|spond)|answer|acknowledge?ment)|out[\s-]of[\s-](the[\s-])?office|ooo\b
|away from (my|the) (office|desk)|on (annual |maternity |parental )?leave\b|vacation (reply|response|notice)
|.{1,60} is (currently )?out of (the )?office
|automatische?r? (antwort|antwoord|beantwortung)|abwesen(d|heit)|ich bin (derzeit )?nicht im (buro|haus)|im urlaub\b
|.{1,60} ist (derzeit )?(ausser haus|abwesend|nicht im (buro|haus))
|reponse automatique|message d'absence|absen(t|te|ce) (du|de|au) (bureau|mon bureau)|.{1,60} est (absent|en conge)
|respuesta automatica|fuera de (la )?oficina|autorespuesta
|risposta automatica|fuori (sede|ufficio)|assenza dall'ufficio|resposta automatica|fora do escritorio|ausencia
|afwezig|niet aanwezig|autom?ati(s|sk)t? svar|autosvar|franvaro|ikke til stede|fravær|poissa
|automatyczna odpowiedz|nieobecno|автоответ|автоматическии ответ|自動(応答|返信)|自动(回复|答复)
"""

_WHOLE_MAILS = """
unsubscribe, unsubscribe me, unsubscribe please, please unsubscribe, please unsubscribe me, unsubscribe me please, stop, stop it
remove, remove me, please remove, please remove me, remove me please, opt out, opt-out, optout, no more
abmelden, abmeldung, bitte abmelden, austragen, bitte austragen, abbestellen, bitte abbestellen, stopp
désabonner, se désabonner, désabonnement, désinscription, désinscrire, baja, dar de baja, borrar, eliminar, desuscribir
cancellami, disiscrizione, annulla iscrizione, afmelden, uitschrijven, graag afmelden, graag uitschrijven
descadastrar, remover, avregistrera, avsluta, afmeld, avmeld, wypisz
"""

# A phrase a line: words of which `/` separates alternatives, `x?` may be missing, `x*` goes on,
# `a_b` is two words; `…` leaves
# up to thirty characters, `^` begins a clause, `$` ends the sentence; words in capitals stand for
# the lists below.
_OBJECTIONS = """
remove/delete/drop/erase/exclude please? ME
take ME … off/out
stop/quit/cease … SENDING to? me/us/these/this/such/your/any/stuff/MAIL
stop/quit/cease SENDING $
stop these/those/your/the/all/this … MAIL
do_not/don't/dont/never ever? email/e-mail/mail/contact/message/bother/spam/write/write_to me/us NOT_NOW
do_not/don't/dont/never send … MAIL/anything/more
no_longer/not/don't/dont/never wish/wishing/want/wanting/like/care to … receive/contacted/emailed/e-mailed/mailed/hear_from
no_longer/not/don't/dont wish/want/like/need any?/more/your/these/further … MAIL
no more/further … MAIL
^ unsubscribe NOBODY_ELSE
please/pls/plz/kindly/just/to/and unsubscribe NOBODY_ELSE
how/where do/can/could/should i unsubscribe NOBODY_ELSE
can/could/would/will you please? unsubscribe NOBODY_ELSE
unsubscribe me/us
^ opt-out/opt_out
please/pls/want_to/like_to/wish_to opt-out/opt_out
opt me/us out
withdraw/withdrawing/revoke/revoking my/our … consent/permission
leave me alone

melden/melde/meldet/tragen/trage/tragt/nehmen/nehmt/nimm sie/ihr? bitte? mich/uns … ab/aus/heraus/raus
löschen/lösche/löscht/entfernen/entferne/entfernt/streichen/streiche/streicht sie/ihr? bitte? mich/uns/meine
mich/uns/adresse/daten/mailadresse/e-mail-adresse … LEAVE
aus/vom/von … verteiler/liste/mailingliste/newsletter/datenbank LEAVE/nehmen
keine … MAIL … mehr/erhalten/bekommen/empfangen/schicken/senden/zusenden/zuschicken
keine weitere/weiteren … MAIL
schreiben/kontaktieren/schicken/senden sie mir/mich/uns … nicht_mehr/nichts_mehr/nie_wieder/keine
nicht_mehr/nie_wieder … anschreiben/angeschrieben/kontaktieren/kontaktiert/anmailen
MAIL … abbestellen/abzubestellen
lassen sie mich in ruhe
einwilligung … widerrufe/widerrufen
widerrufe … einwilligung

désabonnez/désinscrivez/retirez/supprimez/enlevez/rayez/désabonne/retire/supprime/enlève moi/nous/mon/mes
me/m/nous désabonner/désinscrire/retirer/supprimer/enlever/rayer
ne me/m/nous? envoyez/écrivez/contactez/envoyer/contacter … plus
ne plus … envoyer/écrire/contacter/recevoir
ne souhaite/veux/désire/souhaitons/voulons plus … recevoir/contacté/contactés
arrêtez/arrêter/cessez/cesser de me/m/nous envoyer/écrire/contacter/spammer

darme/denme/dame/deme/dadme/darnos/dennos/denos de baja
me/nos den/dé/dan de baja
solicito/quiero/deseo … de_baja
no me/nos? envíe*/enviéis/escriba*/mande*/contacte* … más
no deseo/quiero/queremos/deseamos seguir? recib*
dejen/deje/dejad de env*/escrib*/mand*/contact*
bórrenme/bórrame/borrarme/elimínenme/elimíname/eliminarme/quítenme/quitarme/sáquenme
eliminen/elimine/eliminar/borren/borre/borrar/quiten/quitar mi/nuestro correo/dirección/email/e-mail/nombre

cancellatemi/cancellami/rimuovetemi/rimuovimi/disiscrivetemi/disiscrivimi/toglietemi/toglimi/eliminatemi/eliminami
non desidero/voglio/vogliamo/desideriamo più ricevere/essere
non scrivetemi/contattatemi/mandatemi/inviatemi … più

schrijf/meld/haal/verwijder mij/me/ons … uit/af/van/lijst
mij/me/ons … uitschrijven/afmelden/verwijderen/uit_te_schrijven/af_te_melden
geen … MAIL meer
niet_meer/niet_langer … mailen/benaderen/ontvangen

remova/removam/remover/retire/retirem/retirar/exclua/excluam/descadastre/descadastrem me
não quero/desejo/queremos mais? receber
pare/parem de me? enviar/mandar/escrever
"""

_LISTS = {
    "ME": "me/us/my_address/my_email/my_e-mail/my_mail/my_name/my_data/my_details/my_contact*/our_address*/our_email*/our_e-mail*"
    "/this_address/this_email/this_e-mail/ADDRESS",
    "MAIL": "mail/mails/email/emails/e-mail/e-mails/message/messages/newsletter/newsletters/mailing/mailings/spam/communications"
    "/nachrichten/werbung/werbemails",
    "SENDING": "emailing/e-mailing/mailing/sending/contacting/writing/spamming/messaging/bothering",
    "LEAVE": "austragen/auszutragen/abmelden/abzumelden/löschen/entfernen/streichen/herausnehmen/herauszunehmen",
}
_SPECIAL = {
    "…": r"(?:.{0,30}\W)?",
    "^": r"(?:^|(?<=[,:;–-] ))",
    "$": r"$",
    "NOT_NOW": r"(?!(?:about|until|before|on|during|today|tomorrow|this|the|by|at)\b)",
    "NOBODY_ELSE": r"(?!(?:my|our|a|an|the|him|her|them|some\w+|people|users?|contacts?|leads?|customers?|recipients?|rates?"
    r"|links?|requests?)\b(?!\W(?:e-?mail|address)))",
}  # fmt: skip
_NOT_NEGATED = r"(?<!not )(?<!n't )(?<!dont )(?<!never )(?<!nicht )(?<!without )"

ELSEWHERE = re.compile(  # "remove me from tomorrow's demo" speaks of an appointment
    r"\b(?:from|off|of|vom|von|aus|fur|de|du|del|della|van|voor|uit)(?:[^\w']+[\w']++){0,2}?\W+(?:demo\w*|meeting|call|invit\w+"
    r"|webinar\w*|calendar|event|trial|account|thread|cc|termin\w*|besprechung|reunion|rendez-vous|riunione|cita|afspraak)\b"
)
# "if you no longer wish …" stands in the footers of people who write mailings themselves
CONDITION = re.compile(
    r"\b(?:if you|should you|wenn sie|falls sie|sollten sie|si vous|si usted|si no|se non|als "
    r"u|caso nao)\b.{0,60}"
    r"\b(?:wish|want|like|prefer|receiv\w*|wunschen|mochten|wollen|souhaitez|voulez|desea\w*|desidera\w*|wilt|deseje)\b"
)
CLOSING = re.compile(
    r"(?:(?:with )?(?:best|kind|warm)\s+(?:regards|wishes)|regards|sincerely|cheers"
    r"|mit freundlichen grussen|(?:viele|beste|freundliche|liebe) grusse|cordialement|bien a "
    r"vous|(?:un )?saludos?\b.{0,20}"
    r"|atentamente|cordiali saluti|distinti saluti|met vriendelijke "
    r"groet(?:en)?|atenciosamente|mvh|med vanlig halsning)\W*"
)
SENTENCE = re.compile(r"(?<![.!?;])[.!?;]++(?=\s|$)|\n\s*\n")
ANSWER = re.compile(
    r"\s*(?:re|aw|sv|vs|antw|rv|rif|res|odp|回复|答复|返信)\s*+(?:\[\d+\]\s*)?[:：]"
)


def folded(text: str) -> str:
    """Text without case and accents, its apostrophes straight."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    return "".join(character for character in plain if not unicodedata.combining(character))


def _compiled(phrase: str) -> re.Pattern[str]:
    pattern = rf"{_NOT_NEGATED}(?<!\w)"
    for token in phrase.split():
        pattern += _SPECIAL.get(token) or _word(token)
    return re.compile(pattern)


def _word(token: str) -> str:
    named = "/".join(_LISTS.get(word, word) for word in token.rstrip("?").split("/"))
    words = "|".join(
        r"[^\s@]{1,60}+@[^\s@]{1,60}"
        if word == "ADDRESS"
        else re.escape(folded(word)).replace(r"\*", r"\w*").replace("_", r"\s+")
        for word in named.split("/")
    )
    return rf"(?:(?:{words})(?:\W++|$))" + ("?" if "?" in token else "")


AUTOMATIC = re.compile(rf"\W*(?:{_AUTOMATIC.replace(chr(10), '')})")
WHOLE_MAILS = frozenset(
    folded(word.strip()) for word in _WHOLE_MAILS.replace("\n", ",").split(",") if word.strip()
)
OBJECTIONS = [_compiled(line) for line in _OBJECTIONS.splitlines() if line]


def is_automatic_subject(subject: str) -> bool:
    """Whether the subject is that of an automatic answer, and not of a person's answer to one."""
    return bool(AUTOMATIC.match(folded(subject)))


def is_answer(subject: str) -> bool:
    """Whether the subject has a prefix such as `Re:`."""
    return bool(ANSWER.match(folded(subject)))


def is_objection(subject: str, text: str) -> bool:
    """Whether a person asks in plain words to get no more mails; in doubt yes.

    What stands below a closing is a footer, which may offer others to unsubscribe.
    """
    own = _before_closing(folded(text))
    if _bare(own) in WHOLE_MAILS or _bare(folded(subject)) in WHOLE_MAILS:
        return True
    joined = re.sub(r"(?<!\n)\n(?!\n)", " ", own)
    pieces = {piece.strip() for piece in (*SENTENCE.split(joined), *own.splitlines())}
    return any(_objects(piece) for piece in pieces if piece and not CONDITION.search(piece))


def _objects(piece: str) -> bool:
    if _bare(piece) in WHOLE_MAILS:
        return True
    found = (match for objection in OBJECTIONS for match in objection.finditer(piece))
    return any(not ELSEWHERE.search(piece[match.start() : match.end() + 40]) for match in found)


def _before_closing(text: str) -> str:
    lines = text.splitlines()
    end = next(
        (number for number, line in enumerate(lines) if CLOSING.fullmatch(line.strip())), len(lines)
    )
    return "\n".join(lines[:end])


def _bare(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s'-]+", " ", text).split()).strip(" -'")
