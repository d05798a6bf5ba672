"""What an import declares of its events: `?as=history`, or `?as=new_leads&days=7`; the items are in
our own format.
"""

from services.ingest.sources import canonical
from services.ingest.sources.contract import InboundRequest, SetupGuide, Source
from services.shared.contracts.provenance import HISTORY, NEW_LEADS, Provenance
from services.shared.errors import Reject
from services.shared.nearest import Names

PATH = "/v1/import"
MAX_DAYS = 90
SETUP = SetupGuide(
    "Files",
    [
        "Run `ripeline import FILE.csv --mapping MAP.yaml --to {address} --key KEY`, or open "
        "/import at the same host",
        "Programs of your own post our JSON to {address} with ?as=history, or ?as=new_leads&days=7",
    ],
)


def provenance(request: InboundRequest) -> Provenance:
    """What a request declares of its events. Raises Reject."""
    mode, days = request.query.get("as", HISTORY), request.query.get("days", "1")
    if mode not in (HISTORY, NEW_LEADS):
        raise Reject(
            "an import is history or new_leads",
            where="?as",
            remedy="say ?as=history, or ?as=new_leads&days=7",
        )
    if not days.isdecimal() or int(days) > MAX_DAYS:
        raise Reject("not a number of days", where="?days", remedy=f"say 0 to {MAX_DAYS}")
    return declared(mode, int(days))


def declared(mode: str, days: int) -> Provenance:
    """The provenance of an import's events; history has no days."""
    return Provenance(HISTORY) if mode == HISTORY else Provenance(NEW_LEADS, days)


SOURCE = Source(
    "import",
    canonical.parse,
    (PATH,),
    canonical.MEDIA,
    body=canonical.SOURCE.body,
    example=canonical.SOURCE.example,
    setup=SETUP,
    sample=canonical.sample,
    scopes=("secret",),
    provenance=provenance,
    parameters=Names({"as", "days", "key", "file", "import", "rows", "accepted", "rejected"}),
)
