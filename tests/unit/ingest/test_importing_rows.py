"""Mappings and what rows mean under them: identifiers, times, types, permissions, outcomes, ids
(I3, N6, M4).
"""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.ingest.importing.cells import number
from services.ingest.importing.guess import guess, written
from services.ingest.importing.header import Header
from services.ingest.importing.mapping_file import load, templates
from services.ingest.importing.mapping_file import read as mapping_of
from services.ingest.importing.rows import Rows
from services.ingest.importing.table import Table
from services.ingest.importing.times import parse
from services.ingest.sources.contract import Item, Refused, Remark, Remarked
from services.shared.clock import EPOCH
from services.shared.contracts.events import Consent, ExternalId
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile
from tests.unit.ingest.importing import DATA, FACTS, items, read, rows_of

NOON = datetime(2026, 3, 4, 11, tzinfo=UTC)  # at noon in Berlin


def one(mapping: str, **cells: str) -> Item:
    [item] = items(mapping, **cells)
    return item


def refused(mapping: str, **cells: str) -> Reject:
    found = read(mapping, **cells)
    assert isinstance(found, Refused)
    return found.reject


def problems(mapping: str, *header: str) -> list[str]:
    with pytest.raises(InvalidFile) as raised:
        rows_of(mapping, *header)
    return [str(problem) for problem in raised.value.problems]


# -- mappings -------------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once_with_its_line_and_a_remedy() -> None:
    found = problems(
        "kind: leads\nemail: Mail\nconsnt: OK\ntime: {column: T, zone: Mars}\nas: "
        "soon\ndays: 1000\n"
    )
    assert [text.split(": ")[0] for text in found] == [
        "map.yaml:4",
        "map.yaml:5",
        "map.yaml:6",
        "map.yaml:3",
    ]
    assert any("no such key. Did you mean `consent`?" in text for text in found)
    assert any("no time zone 'Mars'" in text for text in found)


def test_columns_that_are_not_in_the_file_are_told_before_any_row() -> None:
    found = problems(
        "kind: leads\nemail: Mial\ntraits:\n  title: Job titel\nconsent: {column: Ok}\ndrop: "
        "[Gone]\n",
        "Mail",
        "Job title",
    )
    assert found == [
        "map.yaml:2: email: no column 'Mial' in the file. Did you mean 'Mail'?",
        "map.yaml:4: traits.title: no column 'Job titel' in the file. Did you mean 'Job title'?",
        "map.yaml:5: consent.0.column: no column 'Ok' in the file. The columns are 'Mail', "
        "'Job title'",
        "map.yaml:6: drop.0: no column 'Gone' in the file. The columns are 'Mail', 'Job title'",
    ]


@pytest.mark.parametrize(
    ("mapping", "what"),
    [
        ("kind: events\nemail: A", "events need a `type`"),
        ("kind: suppressions\nuser_id: A", "suppressions need the column of an `email`"),
        ("kind: leads\nsource: A", "nothing says who it is"),
        ("kind: leads\nemail: A\ntime: {format: x}", "a column or a constant"),
        ("kind: leads\nemail: A\ntraits: some", "write `all`"),
        ("kind: leads\nemail: A\nconsent: {equals: x}", "`equals` needs a column"),
        ("- kind", "not a mapping"),
        ("kind: [", "not readable"),
        ("kind: leads\nemail: A\n\tx: y", "not readable"),
    ],
)
def test_a_mapping_that_makes_no_sense_says_why(mapping: str, what: str) -> None:
    assert what in problems(mapping, "A")[0]


def test_names_of_columns_are_found_whatever_their_case_and_the_space_around_them() -> None:
    assert one("kind: leads\nemail: e-mail", **{"  E-Mail ": "a@x.example"}).email == "a@x.example"


def test_a_byte_order_mark_in_the_mapping_does_no_harm(tmp_path: Any) -> None:
    file = tmp_path / "map.yaml"
    file.write_bytes("\ufeffkind: leads\nemail: A\n".encode())
    assert mapping_of(str(file)).mapping.email == "A"


# -- who ------------------------------------------------------------------------------------------


def test_lead_is_an_address_where_it_is_one_and_else_a_user_id() -> None:
    mapping = "kind: leads\nlead: Who"
    assert one(mapping, Who=" Ann@X.example ").email == "ann@x.example"
    assert (one(mapping, Who="4711").user_id, one(mapping, Who="@ann").user_id) == ("4711", "@ann")
    assert refused(mapping, Who="ann@nowhere").title == "not a mail address"


def test_all_identifiers_of_a_row_are_kept() -> None:
    item = one(
        "kind: leads\nemail: E\nuser_id: U\nanonymous_id: A\nexternal_id: {system: hubspot, "
        "column: R}",
        E="a@x.example", U="u1", A="c1", R="77",
    )  # fmt: skip
    assert (item.email, item.user_id, item.anonymous_id) == ("a@x.example", "u1", "c1")
    assert item.external_id == ExternalId("hubspot", "77")
    assert one("kind: leads\nexternal_id: R", R="77").external_id == ExternalId("crm", "77")


# -- when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-04T11:00:00Z", NOON),
        ("2026-03-04T12:00:00+01:00", NOON),
        ("2026-03-04 12:00:00", NOON),
        ("2026-03-04 12:00", NOON),
        ("2026-03-04 11:00:00 UTC", NOON),
        ("2026/3/4 12:00", NOON),
        ("1772622000", NOON),
        ("1772622000000", NOON),
        ("1772622000.0", NOON),
        ("1712010112345", datetime(2024, 4, 1, 22, 21, 52, 345_000, tzinfo=UTC)),
        ("2026-03-04T11:00:00.000Z", NOON),
        ("2026-03-04T11:00:00.000+0000", NOON),
        ("2026-03-04", datetime(2026, 3, 3, 23, tzinfo=UTC)),
        ("2026-07-04", datetime(2026, 7, 3, 22, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_every_form_that_has_one_meaning(text: str, at: datetime) -> None:
    """A time without its zone is in the company's, here Berlin."""
    assert one("kind: leads\nemail: E\ntime: T", E="a@x.example", T=f" {text} ").occurred_at == at


@pytest.mark.parametrize("text", ["03/04/2026", "25/12/2026", "3.4.2026 10:00", "04-03-26"])
def test_a_date_that_can_be_read_in_two_ways_is_refused_with_the_remedy(text: str) -> None:
    reject = refused("kind: leads\nemail: E\ntime: T", E="a@x.example", T=text)
    assert "two ways" in reject.title
    assert "format" in reject.remedy


@pytest.mark.parametrize(
    "text", ["soon", "45992", "0001-01-01", "99999-01-01", "2026-13-01", "1e400"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    assert refused("kind: leads\nemail: E\ntime: T", E="a@x.example", T=text).where == "time"


def test_a_format_and_a_zone_settle_it() -> None:
    mapping = (
        "kind: leads\nemail: E\ntime: {column: T, format: '%d/%m/%Y %H:%M', zone: America/New_York}"
    )
    assert one(mapping, E="a@x.example", T="03/04/2026 08:00").occurred_at == datetime(
        2026, 4, 3, 12, tzinfo=UTC
    )
    assert refused(mapping, E="a@x.example", T="2026-04-03").title == "a time in another format"


def test_one_moment_may_stand_for_all_rows() -> None:
    mapping = "kind: leads\nemail: E\ntime: {constant: 2026-03-04 12:00}"
    assert one(mapping, E="a@x.example").occurred_at == NOON


def test_a_row_without_a_time_has_none_and_yet_the_same_id_every_time() -> None:
    mapping = "kind: leads\nemail: E\ntime: T"
    item = one(mapping, E="a@x.example", T="")
    assert item.occurred_at is None
    assert item.id == one(mapping, E="a@x.example", T=" ").id


def test_a_time_that_summer_time_leaves_out_or_repeats_is_still_one_instant() -> None:
    assert parse("2026-03-29 02:30", datetime.now(UTC).tzinfo or UTC)
    mapping = "kind: leads\nemail: E\ntime: T"
    assert one(mapping, E="a@x.example", T="2026-03-29 02:30").occurred_at == datetime(
        2026, 3, 29, 1, 30, tzinfo=UTC
    )
    assert one(mapping, E="a@x.example", T="2026-10-25 02:30").occurred_at == datetime(
        2026, 10, 25, 0, 30, tzinfo=UTC
    )


# -- what -----------------------------------------------------------------------------------------


def test_a_type_that_the_model_knows_is_meant_even_where_a_column_has_its_name() -> None:
    mapping = "kind: events\nemail: E\ntype: {}"
    assert (
        one(mapping.format("page_viewed"), E="a@x.example", page_viewed="no").type == "page_viewed"
    )
    assert (
        one(mapping.format("What"), E="a@x.example", What="Demo Requested").type == "demo_requested"
    )
    assert one(mapping.format("Talk Given"), E="a@x.example").type == "talk_given"
    assert refused(mapping.format("What"), E="a@x.example", What=" ").title == "no type"


@pytest.mark.parametrize("value", ["6", "yes", "1.10", "null", "2026-01-02", "Demo Requested"])
def test_names_are_compared_as_texts_whatever_yaml_would_make_of_them(value: str) -> None:
    mapping = f"kind: events\nemail: E\ntype: {{column: W, names: {{{value}: opportunity_opened}}}}"
    assert one(mapping, E="a@x.example", W=value).type == "opportunity_opened"
    assert one(mapping, E="a@x.example", W="Other Thing").type == "other_thing"


def test_traits_are_the_named_columns_or_all_that_nothing_else_uses() -> None:
    cells = {"E": "a@x.example", "Job_Title": " CEO ", "Plan": "", "Secret": "s", "Firm": "Acme"}
    assert one("kind: leads\nemail: E\ntraits: {title: Job Title, plan: Plan}", **cells).traits == {
        "title": "CEO"
    }
    item = one("kind: leads\nemail: E\ncompany: Firm\ntraits: all\ndrop: [Secret]", **cells)
    assert (item.traits, item.company) == ({"job_title": "CEO"}, "Acme")


def test_columns_of_the_same_name_do_not_overwrite_each_other() -> None:
    rows = rows_of("kind: leads\nemail: E\ntraits: all", "E", "Note", "note", "")
    [item] = rows.read(["a@x.example", "one", "two", "unnamed"])
    assert item.traits == {"note": "one", "note_2": "two"}


def test_a_word_is_a_column_where_there_is_one_of_its_name_and_else_itself() -> None:
    """M4: source, campaign and cost come along."""
    mapping = (
        "kind: leads\nemail: E\nsource: Source\ncampaign: spring fair\ncost: Price\nproduct: "
        "{constant: E}\nurl: {column: U}"
    )
    item = one(mapping, E="a@x.example", Source="webinar", Price="12,50 €", U="https://x.example")
    assert (item.source, item.campaign, item.cost, item.product) == (
        "webinar",
        "spring fair",
        12.5,
        "E",
    )
    assert one("kind: leads\nemail: E\ncost: 3", E="a@x.example").cost == 3.0
    assert problems("kind: leads\nemail: E\ncompany: {column: Firm}", "E")


@pytest.mark.parametrize(
    ("text", "amount"),
    [("12", 12), ("-3.5", -3.5), ("1.234,50", 1234.5), ("$1,234.50", 1234.5), ("1,234,567",
    1234567), ("EUR 9,5", 9.5),
     ("1 000", 1000)],
)  # fmt: skip
def test_amounts_are_read_as_people_write_them(text: str, amount: float) -> None:
    assert number(text) == amount


@pytest.mark.parametrize("text", ["1,234", "many", "1.2.3", "NaN", "inf", "1e400"])
def test_an_amount_that_is_none_or_two_is_refused(text: str) -> None:
    with pytest.raises(Reject, match="not a number"):
        number(text)


# -- permissions (N6) -----------------------------------------------------------------------------


def consents(mapping: str, **cells: str) -> tuple[Consent, ...]:
    return one(
        f"kind: leads\nemail: E\ntime: T\n{mapping}",
        **({"E": "a@x.example", "T": "2026-03-04"} | cells),
    ).consent


def test_only_a_word_that_says_yes_is_a_permission() -> None:
    assert [c.state for c in consents("consent: OK", OK="Yes")] == ["given"]
    assert [c.state for c in consents("consent: OK", OK="Opted-in")] == ["given"]
    assert [c.state for c in consents("consent: OK", OK="unsubscribed")] == ["withdrawn"]
    assert [c.state for c in consents("consent: OK", OK="ja, gerne")] == ["given"]
    for word in ("", "no", "0", "perhaps", "false", "nein", "I do not agree", "n/a"):
        assert consents("consent: OK", OK=word) == ()


def test_a_word_that_is_not_understood_is_remarked() -> None:
    """N6: also one that is no value of the mapping's own."""
    for rule, word in (("OK", "perhaps"), ("{column: OK, equals: ja}", "yes")):
        [found] = read(f"kind: leads\nemail: E\nconsent: {rule}", E="a@x.example", OK=word)
        assert isinstance(found, Remarked)
        assert found.remarks == (Remark("consent-word", "OK", word),)
    own = FACTS.words().read("perhaps")
    assert own.unknown == ("perhaps",)


def test_any_value_is_not_a_no() -> None:
    rule = "consent: {column: OK, equals: '*'}"
    assert [c.state for c in consents(rule, OK="by phone")] == ["given"]
    assert consents(rule, OK="nein") == ()
    assert [c.state for c in consents(rule, OK="opted out")] == ["withdrawn"]


def test_a_mapping_names_its_own_words_and_how_they_were_given() -> None:
    rule = (
        "consent: {column: OK, equals: [1, ja], channel: phone, purpose: sales, basis: "
        "badge scan, text: Wording}"
    )
    [given] = consents(rule, OK="1", Wording="Call me")
    assert (given.channel, given.purpose, given.basis, given.text) == (
        "phone",
        "sales",
        "badge scan",
        "Call me",
    )
    assert consents(rule, OK="yes") == ()


def test_all_rows_may_have_one_permission() -> None:
    [given] = consents("consent: {state: given, basis: badge scan}")
    assert (given.state, given.basis, given.at) == ("given", "badge scan", None)


def test_a_permission_without_a_date_is_the_oldest_of_all_and_a_refusal_without_one_is_of_now() -> (
    None
):
    """N6: whatever is imported, a refusal is not overruled by a permission that nobody dated."""
    assert consents("consent: {state: given}", T="")[0].at == EPOCH
    [item] = items(
        "kind: leads\nemail: E\ntime: {constant: 2026-03-04}\nconsent: {state: given}",
        E="a@x.example",
    )
    assert item.consent[0].at == EPOCH
    assert consents("consent: {state: withdrawn}", T="")[0].at is None
    assert consents("consent: {state: given, at: D}", T="", D="2026-01-01T00:00:00Z")[
        0
    ].at == datetime(2026, 1, 1, tzinfo=UTC)


def test_several_words_may_be_said_of_one_address() -> None:
    both = (
        "consent: [{column: A, equals: '*', at: A}, {column: B, equals: '*', state: "
        "withdrawn, at: B}]"
    )
    assert [c.state for c in consents(both, A="2026-01-01", B="2026-02-01")] == [
        "given",
        "withdrawn",
    ]
    assert [c.state for c in consents(both, A="2026-01-01", B="")] == ["given"]


def test_a_suppression_takes_permission_back() -> None:
    item = one(
        "kind: suppressions\nemail: E\ntraits: all\nconsent: {purpose: news, basis: old list}",
        E="a@x.example",
        Note="x",
    )
    assert (item.type, item.traits) == ("consent_withdrawn", {})
    assert item.consent == (Consent(state="withdrawn", purpose="news", basis="old list"),)
    assert (
        one("kind: suppressions\nemail: E", E="a@x.example").consent[0].basis == "suppression list"
    )


# -- outcomes -------------------------------------------------------------------------------------


def test_a_lead_that_reached_the_outcome_brings_it_as_an_event_of_its_own() -> None:
    mapping = (
        "kind: leads\nemail: E\ntime: T\noutcome: {column: Deal, equals: [won, 1], time: "
        "W}\ntraits: {n: N}"
    )
    cells = {"E": "a@x.example", "T": "2026-03-04", "W": "2026-03-05 01:00", "N": "x"}
    lead, outcome = items(mapping, Deal="Won", **cells)
    assert (lead.type, outcome.type, outcome.traits) == ("identified", "opportunity_opened", {})
    assert outcome.occurred_at == datetime(2026, 3, 5, tzinfo=UTC)
    assert lead.id != outcome.id
    assert len(items(mapping, Deal="lost", **cells)) == 1
    undated = items(mapping, Deal="1", **cells | {"W": ""})
    assert undated[0].occurred_at == undated[1].occurred_at


def test_an_event_that_is_the_outcome_has_its_type() -> None:
    mapping = "kind: events\nlead: Case\ntype: Act\ntime: T\noutcome: {column: Act, equals: 6}"
    assert one(mapping, Case="1", Act="6", T="2026-03-04").type == "opportunity_opened"
    assert one(mapping, Case="1", Act="5", T="2026-03-04").type == "5"


# -- ids ------------------------------------------------------------------------------------------


def test_ids_derive_from_what_a_row_says_and_from_nothing_else() -> None:
    """I3: a second run changes nothing, also under another `as`; a column that is not mapped does
    not matter.
    """
    mapping = "kind: leads\nemail: E\ntime: T\ntraits: {a: A}\n{}"
    first = one(mapping.replace("{}", ""), E="a@x.example", T="2026-03-04", A="1", B="2")
    again = one(
        mapping.replace("{}", "as: new_leads\ndays: 3"),
        E="a@x.example",
        T="2026-03-04 00:00",
        A=" 1",
        B="3",
    )
    assert first == again
    for change in ({"E": "b@x.example"}, {"T": "2026-03-05"}, {"A": "2"}):
        assert (
            one(
                mapping.replace("{}", ""),
                **{"E": "a@x.example", "T": "2026-03-04", "A": "1", "B": "2"} | change,
            ).id
            != first.id
        )


# -- guesses and templates ------------------------------------------------------------------------


def test_columns_are_guessed_from_their_names_and_examples() -> None:
    header = Header(["Kontakt", "Job Title", "Company name", "Created", "Newsletter", "Empty"])
    rows = [
        ["a@x.example", "CEO", "Acme", "2026-01-02", "yes", ""],
        ["b@x.example", "CTO", "Bolt", "2026-01-03", "no", ""],
    ]
    found = guess(header, rows)
    assert found == {
        "kind": "leads",
        "time": "Created",
        "consent": "Newsletter",
        "company": "Company name",
        "email": "Kontakt",
        "traits": {"title": "Job Title"},
    }
    load(written(found), "guess").check(header)


def test_events_and_suppressions_are_told_apart() -> None:
    header = Header(["CaseID", "ActivityID", "CompleteTimestamp"])
    found = guess(header, [["17", "3", "2011-10-01 19:45:13"], ["17", "5", "2011-10-01 20:17:08"]])
    assert (found["kind"], found["user_id"], found["time"]) == (
        "events",
        "CaseID",
        "CompleteTimestamp",
    )
    assert found["type"] == {"column": "ActivityID", "names": {"3": "3", "5": "5"}}
    load(written(found), "guess").check(header)
    assert guess(Header(["Address"]), [["a@x.example"]], "unsubscribed.csv") == {
        "kind": "suppressions",
        "email": "Address",
    }
    assert guess(Header(["Name"]), [["Ann"]]) == {"kind": "leads", "lead": "Name"}


@pytest.mark.parametrize("name", sorted(templates()))
def test_every_template_reads_an_export_with_that_tools_own_headers(name: str) -> None:
    plan, table = mapping_of(name), Table(DATA / f"{name}.csv")
    rows = Rows(plan, table.header, FACTS)
    found = [rows.read(row.cells) for row in table.rows()]
    table.close()
    assert found
    assert not [one for one in found if isinstance(one, Refused)]
    first = found[0]
    assert not isinstance(first, Refused)
    expected: dict[str, Any] = {
        "hubspot": (
            "identified",
            "ada@hub-one.example",
            ["given"],
            {"title": "Maintenance manager"},
        ),
        "salesforce": ("identified", "dana@sales-one.example", [], {"title": "Head of Operations"}),
        "mailchimp": ("identified", "fay@mail-one.example", ["given"], {"first_name": "Fay"}),
        "mailchimp-unsubscribed": (
            "consent_withdrawn",
            "hal@mail-three.example",
            ["withdrawn"],
            {},
        ),
        "eventbrite": (
            "event_attended",
            "ivy@fair-one.example",
            [],
            {"title": "Reliability engineer"},
        ),
    }
    type_, email, states, traits = expected[name]
    assert (first[0].type, first[0].email, [c.state for c in first[0].consent]) == (
        type_,
        email,
        states,
    )
    assert traits.items() <= first[0].traits.items()


def test_hubspots_refusal_stands_beside_its_permission_and_its_opportunity_has_its_own_date() -> (
    None
):
    plan, table = mapping_of("hubspot"), Table(DATA / "hubspot.csv")
    rows = Rows(plan, table.header, FACTS)
    found = [rows.read(row.cells) for row in table.rows()]
    table.close()
    lead, outcome = found[1]
    assert [c.state for c in lead.consent] == ["withdrawn", "given"]
    assert (outcome.type, outcome.occurred_at) == (
        "opportunity_opened",
        datetime(2026, 3, 10, 7, tzinfo=UTC),
    )
