"""Every metric of the system, named in one place."""

from prometheus_client import Counter, Gauge, Histogram

# -- every service --------------------------------------------------------------------------------

# `loop` as `__main__` names it; above RIPELINE_WATCHDOG_S the watchdog ends the process
LOOP_AGE = Gauge("ripeline_loop_age_seconds", "Seconds since a loop last turned", ["loop"])
# `limit` is key or address
LIMITED = Counter(
    "ripeline_requests_limited_total",
    "Requests refused because there were too many of them",
    ["limit"],
)
# `why` is slow or endless
CUT_OFF = Counter(
    "ripeline_connections_cut_off_total",
    "Connections closed because a request was too slow or had no end",
    ["why"],
)

# -- ingest ---------------------------------------------------------------------------------------

# `source` is the name of the format or sender
ACCEPTED = Counter(
    "ripeline_interactions_accepted_total", "Interactions acknowledged to their sender", ["source"]
)
# `kind` as in docs/errors.md
REFUSED = Counter(
    "ripeline_interactions_refused_total",
    "Interactions refused, by kind of problem",
    ["source", "kind"],
)
# what lies on disk while the broker is away
SPOOL_RECORDS = Gauge("ripeline_spool_records", "Submissions on disk that wait for the broker")
SPOOL_BYTES = Gauge("ripeline_spool_bytes", "Bytes of the spool in use")
# files that are kept for people: not all of them could be read
SPOOL_DAMAGED = Gauge("ripeline_spool_damaged_files", "Files of the spool with damage in them")
# refused with 503: the whole spool is full, or one sender's share of it
SPOOL_FULL = Counter("ripeline_spool_full_total", "Submissions refused because the spool was full")
SPOOL_SHARE = Counter(
    "ripeline_spool_share_total",
    "Submissions refused because their sender's share of the spool was full",
)
# stands still while the mailbox cannot be read
MAILBOX_READ = Gauge(
    "ripeline_mailbox_read_timestamp_seconds",
    "When the mailbox was last read to its end, since 1970",
)

# -- scorer and nurture: their consumers and outboxes, `service` being the one or the other --------

# from the first attempt to the commit, repetitions included
BATCH_SECONDS = Histogram(
    "ripeline_batch_seconds", "Seconds of one consumed batch, commit included", ["service"]
)
# each is a row of the table dead_letter
DEAD_LETTERS = Counter(
    "ripeline_dead_letters_total", "Records that can never be applied", ["service"]
)
# each is unaccounted for: deleted by the broker before it was read, or in a topic that was deleted
RECORDS_LOST = Counter(
    "ripeline_records_lost_total",
    "Records that the broker no longer had when they were to be read",
    ["service", "topic"],
)
# `cause` is database or error of ours; each is an attempt that is repeated
BATCHES_WAITING = Counter(
    "ripeline_batches_waiting_total",
    "Attempts at a batch that failed for no fault of its records",
    ["service", "cause"],
)
OUTBOX_PUBLISHED = Counter(
    "ripeline_outbox_published_total", "Records published from the outbox", ["service"]
)
# above 30 the service is not ready
OUTBOX_AGE = Gauge(
    "ripeline_outbox_age_seconds", "Age of the oldest record in the outbox", ["service"]
)
# each is a row of the table unsendable
OUTBOX_SET_ASIDE = Counter(
    "ripeline_outbox_set_aside_total", "Records that no broker will ever take", ["service"]
)

# -- scorer ---------------------------------------------------------------------------------------

EVENTS_APPLIED = Counter("ripeline_events_applied_total", "Distinct events folded into leads")
# duplicates of senders, replays of the consumer
EVENTS_REPEATED = Counter("ripeline_events_repeated_total", "Events that were known already")
# `what` is traits or consents; the lead's view says the same
LEADS_CURTAILED = Counter(
    "ripeline_leads_curtailed_total",
    "Leads of which more was posted for the first time than is kept",
    ["what"],
)
# `cause` as in `lead.stage_changed.v1`
STAGE_CHANGES = Counter(
    "ripeline_stage_changes_total", "Stage changes announced", ["stage", "cause"]
)
# `where` is consumer, sweeper, writeback, query, page or nurture; the lead alone is left out there
LEADS_FAILED = Counter(
    "ripeline_leads_failed_total", "Attempts at a lead that failed by its own data", ["where"]
)
# `result` is sent, unchanged, moved (the lead was merged away), failed (tried again) or given_up
CRM_DELIVERIES = Counter(
    "ripeline_written_back_total", "Messages to the CRM, by what became of them", ["result"]
)

# `channel` is mail or webhook; `result` is sent, failed (tried again) or given_up
HANDOFF_NOTICES = Counter(
    "ripeline_handoff_notices_total",
    "What owners and the webhook of hand-offs were told",
    ["channel", "result"],
)

# -- nurture --------------------------------------------------------------------------------------

# `reason` says why a touch is withheld, and is empty otherwise
TOUCHES_DECIDED = Counter(
    "ripeline_touches_decided_total", "Decisions on touches", ["status", "reason"]
)
# such a lead gets mail only while it is day in all of its country, else at the company
TIME_ZONES_UNREADABLE = Counter(
    "ripeline_time_zones_unreadable_total",
    "Decisions on leads whose time zone is not understood",
)
TOUCHES_SENT = Counter("ripeline_touches_sent_total", "Touches that left", ["channel"])
# each by an ingest whose spool holds records, or of which nobody knows
HOLDING_INGESTS = Gauge(
    "ripeline_ingests_holding_up_sending", "Ingests for whose spool sending waits"
)
# rising is an alarm: nothing goes out; `ripeline status` and the page say why
CHANNEL_FAILURES = Counter(
    "ripeline_channel_failures_total",
    "Attempts at which a channel's server was away or refused us",
    ["channel"],
)
# `state` is warning or stopped; `ripeline status` and the page name them
RECEIVERS = Gauge(
    "ripeline_receivers",
    "Receivers of mail with too many complaints, or with something against the sender",
    ["state"],
)
# through all services; the buckets are finest around the target of 250 ms
DECISION_SECONDS = Histogram(
    "ripeline_event_to_decision_seconds", "Seconds from a webhook's acceptance to the decision "
    "on the touch",
    buckets=(0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2, 5, 15, 60),
)  # fmt: skip

# -- the model ------------------------------------------------------------------------------------

# stands still where the nightly check does not come to its end
MODEL_CHECKED = Gauge(
    "ripeline_model_checked_timestamp_seconds",
    "When predictions were last compared with what came of them, since 1970",
)
# `kind` is calibration, mix or silent
MODEL_ALARMS = Gauge("ripeline_model_alarms", "Alarms of the last check of the model", ["kind"])
