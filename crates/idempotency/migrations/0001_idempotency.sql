CREATE TABLE idempotency (
    -- A key belongs to one authenticated principal. The same key of another principal is another key.
    principal      text        NOT NULL,
    -- SHA-256 of the key. The key itself is not stored.
    key_hash       bytea       NOT NULL CHECK (octet_length(key_hash) = 32),
    -- Hash of the request. A second request with another fingerprint is refused.
    fingerprint    bytea       NOT NULL,
    command        text        NOT NULL,
    -- Id of the object that the command changes.
    aggregate_id   uuid        NOT NULL,
    claimed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The columns below are null until the reply is final. After that they do not change.
    completed_at   timestamptz,
    status         smallint,
    content_type   text,
    location       text,
    -- Id of the record that explains the reply, if the service keeps such records.
    entry_id       uuid,
    body           bytea,
    CONSTRAINT idempotency_pkey PRIMARY KEY (key_hash, principal),
    CHECK ((completed_at IS NULL) = (status IS NULL) AND (status IS NULL) = (body IS NULL))
);
CREATE INDEX idempotency_unfinished ON idempotency (aggregate_id) WHERE completed_at IS NULL;
CREATE INDEX idempotency_by_completion ON idempotency (completed_at) WHERE completed_at IS NOT NULL;
