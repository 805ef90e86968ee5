-- The journal and the idempotency keys: the same in every service that uses the crate.

-- The legal moves. The journal's foreign key makes an illegal transition impossible to record.
CREATE TABLE transitions (
    aggregate_kind text NOT NULL,
    from_state     text NOT NULL,
    to_state       text NOT NULL,
    PRIMARY KEY (aggregate_kind, from_state, to_state)
);

CREATE TABLE journal (
    -- Drawn when the row is inserted, which is after the aggregate's row lock was taken; so within one
    -- aggregate it follows the versions. It is not the order of commits: see the feed in the journal crate.
    seq            bigint GENERATED ALWAYS AS IDENTITY,
    xid            xid8   NOT NULL DEFAULT pg_current_xact_id(),
    id             uuid   NOT NULL,
    aggregate_kind text   NOT NULL,
    aggregate_id   uuid   NOT NULL,
    version        bigint NOT NULL CHECK (version > 0),
    from_state     text   NOT NULL,
    to_state       text   NOT NULL,
    correlation_id text   NOT NULL,
    trace_id       text,
    key_hash       bytea,
    -- The whole entry as canonical JSON (RFC 8785), as bytes: what was hashed is what is kept.
    body           bytea  NOT NULL,
    hash           bytea  NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (aggregate_id, version),
    FOREIGN KEY (aggregate_kind, from_state, to_state) REFERENCES transitions
);
CREATE INDEX journal_by_xid ON journal (xid);
CREATE INDEX journal_by_correlation ON journal (correlation_id);
CREATE INDEX journal_by_trace ON journal (trace_id) WHERE trace_id IS NOT NULL;

CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER journal_no_rewrite BEFORE UPDATE OR DELETE ON journal
    FOR EACH ROW EXECUTE FUNCTION journal_is_append_only();
CREATE TRIGGER journal_no_truncate BEFORE TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only();

CREATE TABLE idempotency (
    principal      text        NOT NULL,
    -- SHA-256 of the key: the key itself is the caller's and is not kept.
    key_hash       bytea       NOT NULL CHECK (octet_length(key_hash) = 32),
    -- What the key stands for: a second request with another fingerprint is refused.
    fingerprint    bytea       NOT NULL,
    command        text        NOT NULL,
    aggregate_id   uuid        NOT NULL,
    claimed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- All null until the outcome is final, all set from then on, and never changed again.
    completed_at   timestamptz,
    status         smallint,
    content_type   text,
    location       text,
    entry_id       uuid,
    body           bytea,
    PRIMARY KEY (principal, key_hash),
    CHECK ((completed_at IS NULL) = (status IS NULL) AND (status IS NULL) = (body IS NULL))
);
CREATE INDEX idempotency_unfinished ON idempotency (aggregate_id) WHERE completed_at IS NULL;
CREATE INDEX idempotency_by_completion ON idempotency USING brin (completed_at);
