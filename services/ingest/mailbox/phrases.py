"""The phrases by which a mail is known as an answer, or as an objection to more mails; in the
languages of most leads.
"""

import re

from services.ingest.mailbox.folding import folded

_WHOLE_MAILS = """
unsubscribe, unsubscribe me, unsubscribe please, please unsubscribe, please unsubscribe me, unsubscribe me please, stop, stop it
remove, remove me, please remove, please remove me, remove me please, opt out, opt-out, optout, no more
abmelden, abmeldung, bitte abmelden, austragen, bitte austragen, abbestellen, bitte abbestellen, stopp
désabonner, se désabonner, désabonnement, désinscription, désinscrire, baja, dar de baja, borrar, eliminar, desuscribir
cancellami, disiscrizione, annulla iscrizione, afmelden, uitschrijven, graag afmelden, graag uitschrijven
descadastrar, remover, avregistrera, avregistrera mig, avsluta, avprenumerera, ta bort mig, afmeld, afmeld mig, frameld
avmeld, avmeld meg, meld meg av, poista, poista minut, poistakaa minut, peruuta tilaus, wypisz, wypisz mnie, rezygnuję
proszę o wypisanie, odhlásit, odhlásit se, odhlaste mě, odhlásiť, odhláste ma, leiratkozás, leiratkozom, dezabonare, dezabonați-mă
απεγγραφή, διαγραφή, abonelikten çık, abonelik iptal, listeden çıkar, отписаться, отписка, отпишите, отпишите меня, отказаться
відписатися, відписка, відпишіть мене, отпишете ме, отписване, odjava, odjavi me, odjavite me, odjava prosim, atsisakyti
atsisakau, atrakstīties, atteikties, loobun, loobuda, הסר, הסרה, הסר אותי, הסירו אותי, נא להסיר, إلغاء الاشتراك, ألغوا اشتراكي
hủy đăng ký, huỷ đăng ký, berhenti berlangganan, berhenti, ยกเลิก, ยกเลิกการสมัคร, 退订, 退訂, 取消订阅, 取消訂閱, 配信停止, 配信停止希望
登録解除, 購読解除, 수신거부, 수신 거부, 구독취소, 구독 취소
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

avregistrera/avprenumerera/ta_bort mig/oss/min/vår
vill inte … mejl/utskick/nyhetsbrev/MAIL
sluta/upphör … skicka/mejla/maila/kontakta/skriva
kontakta/mejla/maila/skriv_till mig/oss inte
skicka inte … mejl/utskick/MAIL
inga fler … mejl/utskick/nyhetsbrev/MAIL

afmeld/slet/fjern/frameld mig/os/min
ønsker/vil ikke at? modtage/høre
ønsker/vil ikke … nyhedsbreve/beskeder/MAIL
stop med_at sende/skrive/kontakte/maile
ikke flere … nyhedsbreve/beskeder/MAIL
skriv/send/kontakt mig/os ikke/aldrig
vil_gerne/ønsker_at afmeldes/afmelde/frameldes

avmeld/slett/fjern/meld meg/oss/min … av/fra/listen/listene
avmeld/fjern/slett meg/oss
ønsker/vil ikke å? motta/høre
ønsker/vil ikke … e-poster/eposter/meldinger/nyhetsbrev/MAIL
slutt/slutte … sende/skrive/kontakte/maile
ingen flere … e-poster/eposter/meldinger/nyhetsbrev/MAIL
ikke send/kontakt/skriv … meg/mer/flere

poistakaa/poista/poistettava minut/meidät/osoitteeni/tietoni
en/emme halua/haluamme/toivo … viestejä/sähköposteja/postia/uutiskirj*/mainoksia/postianne
lopettakaa/lopeta … lähettäminen/lähettämästä/viestit/postit
älkää/älä lähettäkö/lähetä/ottako/ota … enää/lisää/minulle/yhteyttä
peruuttakaa/peruuta/perukaa/peru … tilaus/tilaukseni/uutiskirje

wypiszcie/usuńcie/wypisz/usuń/skreślcie mnie/nas/mój/moje/moich
proszę mnie/nas? wypisać/usunąć/wykreślić
proszę o wypisanie/usunięcie/wykreślenie
nie chcę/chcemy/życzę_sobie/życzymy_sobie … otrzymywać/dostawać/wiadomości/maili/newslettera
proszę nie/o_nie pisać/wysyłać/przysyłać/kontaktować/wysyłanie/przysyłanie
przestańcie/przestań … pisać/wysyłać/przysyłać/spamować
nie piszcie/wysyłajcie/przysyłajcie/kontaktujcie … mnie/mi/więcej/już/nas/nam
rezygnuję z newslettera/subskrypcji/wiadomości/mailingu
cofam/wycofuję … zgodę

odhlaste/odhlašte/odhlas/odhlásit/vyřaďte/vymažte/smažte/odstraňte mě/mne/nás/mou/moji/můj/moje
nechci/nechceme/nepřeji_si/nepřejeme_si … dostávat/zasílat/odebírat/e-maily/maily/zprávy/novinky
neposílejte/nepište/nekontaktujte/nezasílejte mi/mě/mne/nám/už
přestaňte … posílat/psát/zasílat
odhláste/odhlásiť/vyraďte/vymažte/odstráňte ma/nás/moju/môj
neželám_si/neželáme_si/nechcem/nechceme … dostávať/odoberať/e-maily/maily/správy
neposielajte/nepíšte/nekontaktujte mi/ma/nám/už
prestaňte … posielať/písať

leiratkozom/leiratkoznék/leiratkozni
töröljenek/töröljön/töröljék/töröld/vegyenek/vegyen … listáról/listából/adatbázisból/címem*/engem/minket/adataim*
nem kérek/kérünk/szeretnék/akarok … hírlevel*/level*/e-mail*/üzenet*
nem kérek/kérünk többet
ne küldjenek/küldjön/küldjetek/írjanak/írjon … többet/több/nekem

dezabonați/dezabonează/dezabonati/dezaboneaza mă/ma/adresa
ștergeți/scoateți/eliminați/stergeti/scoateti/eliminati mă/ma/adresa/datele
nu mai doresc/vreau/dorim/vrem … primesc/primi/primim/emailuri/mesaje
nu mai? mă/ma/îmi/imi/ne mai? contactați/trimiteți/scrieți/contactati/trimiteti/scrieti
nu mai trimiteți/trimiteti/scrieți/scrieti

abonelikten çık*/çıkar*/ayrıl*
aboneliğimi/aboneliğimizi … iptal/sonlandır*
listeden/listenizden/listelerinizden … çıkar*/sil*
beni/bizi … çıkarın/çıkarınız/çıkartın/silin/siliniz
bir_daha/artık … göndermeyin/göndermeyiniz/yazmayın/atmayın
e-posta/e-postalar/mesaj/bülten/MAIL … istemiyorum/istemiyoruz/göndermeyin/göndermeyiniz/atmayın

διαγράψτε/διαγράψετε/αφαιρέστε/βγάλτε με/μας/το/τη/την
δεν/δε επιθυμώ/θέλω/επιθυμούμε/θέλουμε … λαμβάνω/λαμβάνουμε/άλλα/μηνύματα/MAIL
μη/μην μου/μας … στέλνετε/στείλετε/γράφετε
σταματήστε … στέλνετε/στείλετε
απεγγραφή/απεγγράψτε με/μου/από/μας

отпишите/отписать/удалите/уберите/исключите меня/нас/мой/мою/мои/наш
как/прошу/хочу/хотел_бы/можно отписаться
не пишите/присылайте/шлите/отправляйте/беспокойте … мне/больше/нам/меня/нас
больше не присылайте/пишите/шлите/отправляйте/беспокойте
не хочу/желаю/хотим/желаем … получать
прекратите/перестаньте … слать/присылать/отправлять/писать/рассылку/рассылки
отзываю … согласие
відпишіть/відписати/видаліть/вилучіть/приберіть мене/нас/мою/мій/мої
як/прошу/хочу відписатися/відписатись
не пишіть/надсилайте/шліть/турбуйте … мені/більше/нам/мене
більше не надсилайте/пишіть/шліть/турбуйте
не хочу/бажаю/хочемо/бажаємо … отримувати
припиніть … надсилати/писати/розсилку
отпишете/премахнете/изтрийте/махнете ме/ни/моя/имейла
не желая/искам/желаем … получавам/получаваме
не ми/ни изпращайте/пишете/пращайте

odjavite/odjavi/uklonite/izbrišite/maknite/obrišite/odstranite me/nas/moju/moj
ne želim/zelim/želimo … primati/primam/dobivati/dobijati/prejemati/mailove/poruke/več
nemojte mi/nam/me … slati/pisati/kontaktirati/šaljite
prestanite … slati/pisati
ne pošiljajte/pišite/šaljite … več/više/mi/nam

išbraukite/pašalinkite/ištrinkite mane/mus/mano/mūsų
nebenoriu/nenoriu/nenorime … gauti
nesiųskite/nebesiųskite/nerašykite/neberašykite … man/mums/daugiau/laiškų
atsisakau/noriu_atsisakyti … prenumeratos/naujienlaiškio/naujienlaiškių
izņemiet/dzēsiet/izdzēsiet/atrakstiet mani/mūs/manu
nevēlos/negribu/nevēlamies … saņemt
nesūtiet/nerakstiet … man/vairs/mums
eemaldage/kustutage/võtke mind/meid/minu
ei soovi/taha … kirju/e-kirju/uudiskirj*/teateid
ärge saatke/kirjutage … enam/mulle/meile
loobun/loobuda/soovin_loobuda … uudiskirj*/kirjadest

הסירו/תסירו/הסר/להסיר/מחקו/תמחקו אותי/אותנו/כתובתי
לא מעוניין/מעוניינת/רוצה/מעוניינים … לקבל/דיוור/מיילים/הודעות
תפסיקו/הפסיקו … לשלוח/לפנות/לכתוב
אל/נא_לא תשלחו/תפנו/תכתבו/לשלוח … לי/אליי/יותר/לנו

ألغوا/إلغاء/أريد_إلغاء/أرجو_إلغاء/ألغ … اشتراكي/اشتراكنا
لا أريد/أرغب/نريد/نرغب … تلقي/استلام/رسائل/رسائلكم
لا ترسلوا/تراسلوني/ترسل … لي/إلي/إلينا/المزيد/رسائل/بعد
توقفوا/توقف عن … إرسال/ارسال/مراسلتي
احذفوني/احذفني/أزيلوني/أزلني

hủy/huỷ đăng_ký … tôi/nhận/email/thư
không muốn … nhận
đừng/ngừng/dừng … gửi … email/thư/mail/cho_tôi/nữa
xóa/xoá tôi/email_của_tôi/địa_chỉ
hapus/keluarkan saya/kami/email_saya/alamat_saya
jangan … kirim/kirimi/hubungi/mengirim … lagi/saya/kami/email
tidak ingin/mau … menerima
berhenti … berlangganan/mengirim
"""

# of languages that put no space between words
_UNSPACED = """
请退订, 退订邮件, 我要退订, 取消订阅, 取消我的订阅, 不要再发, 别再发, 请勿再发, 请勿再给, 停止发送邮件, 停止给我发, 不想再收到, 不希望再收到, 从列表中删除, 把我删除, 将我移除
請退訂, 取消訂閱, 請勿再寄, 不要再寄, 別再寄, 停止寄送, 不想再收到, 將我移除
配信を停止, 配信停止を, 配信停止して, 配信を止め, 配信をやめ, 配信不要, 送らないで, 送信しないで, 送信をやめ, メールは不要, 登録を解除, 登録解除を
購読を解除, 購読を停止, リストから削除, 連絡しないで
수신거부, 수신을 거부, 수신 거부, 구독을 취소, 구독 취소, 구독취소, 보내지 마, 보내지마, 그만 보내, 연락하지 마, 받고 싶지 않, 명단에서 삭제, 목록에서 삭제
ยกเลิกการรับ, ยกเลิกการสมัคร, ไม่ต้องการรับ, หยุดส่งอีเมล, อย่าส่งอีเมล, เลิกส่ง, ลบฉันออก, ลบอีเมล
"""
_UNSPACED_CONDITIONS = "如果, 若您, 若不, 如需, 如不, 如您, 場合, ご希望の方, 希望される, 経由, 경우, 원하시면, 않으시면, หากคุณ, หากท่าน, 如何处理"


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
SENTENCE = re.compile(r"(?<![.!?;])[.!?;]++(?=\s|$)|[。!?]|\n\s*\n")
ANSWER = re.compile(
    folded(
        r"\s*(?:re|aw|sv|vs|antw|rv|rif|res|odp|ynt|va|valasz|απ|σχετ|rasp|bls|tl|atb|ha|отв|відп|השב|תגובה|رد"
        r"|回复|答复|回覆|回復|返信|회신|답장)\s*+(?:\[\d+\]\s*)?:"
    )
)


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


def _listed(words: str) -> list[str]:
    return [folded(word.strip()) for word in words.replace("\n", ",").split(",") if word.strip()]


def _bare(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s'-]+", " ", text).split()).strip(" -'")


WHOLE_MAILS = frozenset(map(_bare, _listed(_WHOLE_MAILS)))
UNSPACED, UNSPACED_CONDITIONS = _listed(_UNSPACED), _listed(_UNSPACED_CONDITIONS)
OBJECTIONS = [_compiled(line) for line in _OBJECTIONS.splitlines() if line]


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
    if not piece.isascii() and any(phrase in piece for phrase in UNSPACED):
        return not any(condition in piece for condition in UNSPACED_CONDITIONS)
    found = (match for objection in OBJECTIONS for match in objection.finditer(piece))
    return any(not ELSEWHERE.search(piece[match.start() : match.end() + 40]) for match in found)


def _before_closing(text: str) -> str:
    lines = text.splitlines()
    end = next(
        (number for number, line in enumerate(lines) if CLOSING.fullmatch(line.strip())), len(lines)
    )
    return "\n".join(lines[:end])
