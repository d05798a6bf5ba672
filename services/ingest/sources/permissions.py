"""Consents that senders write as words or ticks: from a value at a door to consents and remarks.

A yes permits. A plain no at a box is no permission and takes none back; where a door reports how
things stand, words that say that somebody has left withdraw, and in a synced trait so does a no.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from services.ingest.sources.contract import Parsed, Refused, Remark, Remarked
from services.ingest.sources.remarks import remarked
from services.shared.contracts.consent_words import Answer, ConsentWords, Reading, permits
from services.shared.contracts.events import Consent

State = Literal["given", "withdrawn", ""]
STATES = frozenset({"given", "withdrawn"})
# what may be of a person is not shown: an address, a number
PERSONAL = re.compile(r"@|\d[\d\s().-]{4}")
BOX = re.compile(r"consent(?:\[(?:\d{0,3}|e-?mail|marketing|newsletter)\])?")  # names of one box
IDENTIFIED, TRAIT = "identified", "consent"


class Stated(NamedTuple):
    """What a value says of consent: consents, remarks, and the words that were not understood."""

    consents: tuple[Consent, ...] = ()
    remarks: tuple[Remark, ...] = ()
    unknown: str = ""


def ticked(
    value: Any, words: ConsentWords, where: str, text: str = "", declared: Iterable[str] = ()
) -> Stated:
    """What a box says, in the wording `text`; a box that sends its wording is ticked."""
    reading = words.read(value, declared)
    if reading.unknown and {*reading.unknown} == {text} and permits(text):
        reading = Reading(Answer.YES)
    given = (Consent(state="given", basis="form", text=text),) if reading.is_yes else ()
    return Stated(given, remarks_of(reading, where), ", ".join(reading.unknown))


def of_traits(traits: Mapping[str, Any], words: ConsentWords) -> Stated:
    """What a synced trait `consent` says, in the wording of `consent_text`; it has no date."""
    if TRAIT not in traits:
        return Stated()
    reading = words.read(traits[TRAIT])
    text = traits.get("consent_text")
    state = state_of(reading, no="withdrawn")
    consents = (
        (Consent(state=state, basis="trait", text=text if isinstance(text, str) else ""),)
        if state
        else ()
    )
    return Stated(consents, remarks_of(reading, f"/traits/{TRAIT}"))


def with_trait(found: Parsed, words: ConsentWords) -> Parsed:
    """What a reader found, with what a synced trait `consent` of it says."""
    if isinstance(found, Refused):
        return found
    item, remarks = found if isinstance(found, Remarked) else (found, ())
    if item.type != IDENTIFIED or TRAIT not in item.traits:
        return found
    stated = of_traits(item.traits, words)
    consents = (*item.consent, *stated.consents)
    return remarked(replace(item, consent=consents), (*remarks, *stated.remarks))


def state_of(reading: Reading, no: State = "") -> State:
    """The state that a word reports; `no` is what a plain no means at this door."""
    if reading.is_yes:
        return "given"
    if reading.answer is Answer.REFUSED:
        return "withdrawn"
    return no if reading.answer is Answer.NO else ""


def remarks_of(reading: Reading, where: str) -> tuple[Remark, ...]:
    """A remark for each word that is not understood."""
    return tuple(
        Remark("consent-word", where, "" if PERSONAL.search(word) else word)
        for word in reading.unknown
    )


def mended(given: Any, words: ConsentWords) -> tuple[Any, tuple[Remark, ...]]:
    """An interaction's fields with `consent` as a list of consents, where that is a boolean, a
    word, one consent, or has words as states. A word that is not understood is left out and
    remarked; the state of a consent that names one stays as it is, for the reader to refuse.
    """
    if not isinstance(given, dict) or given.get("consent") is None:
        return given, ()
    stated = given["consent"]
    remarks: list[Remark] = []
    consents: list[Any] = []
    for each in stated if isinstance(stated, list) else [stated]:
        reading = words.read(each.get("state") if isinstance(each, dict) else each)
        if not isinstance(each, dict):
            remarks += remarks_of(reading, "/consent")
            each = {"basis": "stated"}
        elif reading.answer is Answer.UNKNOWN or each.get("state") in (None, *STATES):
            consents.append(each)
            continue
        if state := state_of(reading):
            consents.append({**each, "state": state})
    return {**given, "consent": consents}, tuple(remarks)
