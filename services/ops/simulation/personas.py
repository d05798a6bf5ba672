"""Names, kinds and rates of simulated people; none of them is taken from the estimate."""

from dataclasses import dataclass

CONSENT_TEXT = (
    "Yes, send me the guides and tell me when there is something new. I can leave at any time."
)
GIVEN, FAMILY, COMPANIES = (
    ("Ada", "Bruno", "Chiara", "Dario", "Esi", "Farid", "Greta", "Hana", "Ivo", "Jelena", "Kofi",
    "Lin",
     "Mara", "Nils", "Oona", "Priya", "Quentin", "Rosa", "Samir", "Tove", "Umar", "Vera", "Wanda",
     "Yusuf",
     "Zoe"),
    ("Albrecht", "Boateng", "Costa", "Dvorak", "Eriksen", "Fontaine", "Gupta", "Haddad", "Ito",
    "Jansen",
     "Kowalski", "Larsen", "Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rossi", "Santos",
     "Tanaka",
     "Ueda", "Varga", "Weber"),
    ("harbour-logistics", "alder-bakery", "brightmill", "cobalt-foods", "dune-glass",
    "elm-and-sons",
     "fjord-retail", "granite-works", "heron-plastics", "ionic-metals", "juniper-paper",
     "kestrel-tools",
     "lumen-lamps", "mosaic-tiles", "northgate-rail", "orchard-juices", "pinecrest-timber",
     "quarry-print",
     "river-textiles", "saltmarsh-farms"),
)  # fmt: skip

# (country, time zone) all around the world, so that it is day for most people at every hour
PLACES = (
    ("US", "Pacific/Honolulu"), ("US", "America/Anchorage"), ("US", "America/Los_Angeles"),
    ("CA", "America/Vancouver"), ("US", "America/Denver"), ("US", "America/Chicago"),
    ("MX", "America/Mexico_City"), ("US", "America/New_York"), ("CA", "America/Toronto"),
    ("BR", "America/Sao_Paulo"), ("AR", "America/Argentina/Buenos_Aires"),
    ("PT", "Atlantic/Azores"), ("GB", "Europe/London"), ("FR", "Europe/Paris"),
    ("DE", "Europe/Berlin"), ("SE", "Europe/Stockholm"), ("ZA", "Africa/Johannesburg"),
    ("KE", "Africa/Nairobi"), ("AE", "Asia/Dubai"), ("PK", "Asia/Karachi"),
    ("IN", "Asia/Kolkata"), ("BD", "Asia/Dhaka"), ("TH", "Asia/Bangkok"),
    ("SG", "Asia/Singapore"), ("TW", "Asia/Taipei"), ("JP", "Asia/Tokyo"), ("KR", "Asia/Seoul"),
    ("AU", "Australia/Brisbane"), ("AU", "Australia/Sydney"), ("NZ", "Pacific/Auckland"),
)  # fmt: skip


@dataclass(frozen=True)
class Persona:
    """How one kind of person goes through a purchase.

    `days` are the mean ones in each stage; `activity` multiplies the sessions, `openness` the
    chance to give an address.
    """

    name: str
    share: float
    titles: tuple[str, ...]
    company_size: tuple[int, int]
    days: tuple[float, float, float, float]
    transitions: tuple[tuple[float, ...], ...]  # from each stage to each stage; last the outcome
    activity: float
    openness: float


PERSONAS = (
    Persona(
        "practitioner",
        0.5,
        ("Maintenance Planner", "Reliability Engineer", "Operations Analyst"),
        (30, 900),
        (70, 40, 28, 22),
        (
            (0, 0.85, 0.15, 0, 0),
            (0.45, 0, 0.55, 0, 0),
            (0.35, 0.2, 0, 0.45, 0),
            (0.3, 0, 0.4, 0, 0.3),
        ),
        1.1,
        1.0,
    ),
    Persona(
        "buyer",
        0.32,
        ("Head of Operations", "Plant Director", "Managing Director"),
        (80, 4000),
        (60, 28, 22, 18),
        (
            (0, 0.7, 0.3, 0, 0),
            (0.35, 0, 0.65, 0, 0),
            (0.3, 0.15, 0, 0.55, 0),
            (0.25, 0, 0.3, 0, 0.45),
        ),
        0.85,
        1.2,
    ),
    Persona(
        "student",
        0.18,
        ("Student", "Research Assistant"),
        (1, 3),
        (40, 80, 14, 8),
        ((0, 1, 0, 0, 0), (0.9, 0, 0.1, 0, 0), (0.5, 0.5, 0, 0, 0), (0.5, 0, 0.5, 0, 0)),
        1.3,
        0.7,
    ),
)
# by hidden stage
SESSIONS_A_DAY = (0.012, 0.055, 0.12, 0.24)
GIVES_ADDRESS = (0.12, 0.34, 0.5, 0.75)  # chance in a session of an unknown person
FIRST_STAGE_WEIGHTS = (0.18, 0.52, 0.22, 0.08)
UNSUBSCRIBES_A_DAY = (0.0022, 0.0014, 0.0012, 0.001)
FOLLOWS_MAIL = (0.04, 0.14, 0.26, 0.34)  # chance to follow a mail's link
UNSUBSCRIBES_BY_MAIL = (0.03, 0.012, 0.008, 0.006)  # chance to leave by a mail's link
# chance that a session of a person in each stage holds the act at all
IN_A_SESSION = {
    "read_curious": (0.12, 0.4, 0.2, 0.07),
    "read_weighing": (0.02, 0.06, 0.34, 0.17),
    "read_deciding": (0.005, 0.015, 0.11, 0.34),
    "webinar": (0.01, 0.03, 0.1, 0.07),
    "pricing": (0.012, 0.03, 0.15, 0.4),
    "enquiry": (0.004, 0.008, 0.03, 0.07),
    "demo": (0.001, 0.002, 0.022, 0.14),
    "talk": (0.003, 0.008, 0.05, 0.2),
    "social": (0.03, 0.05, 0.03, 0.01),
}
# shares of messages
SENT_TWICE, SENT_LATE, SENT_VERY_LATE = 0.08, 0.15, 0.04
