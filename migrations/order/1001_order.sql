-- Orders, and what keeps interrupted work findable.

INSERT INTO transitions (aggregate_kind, from_state, to_state) VALUES
    ('order', 'none', 'reserving'),
    ('order', 'reserving', 'reserved'),
    ('order', 'reserving', 'rejected'),
    ('order', 'reserving', 'reserve_unknown'),
    ('order', 'reserving', 'cancelling'),
    ('order', 'reserve_unknown', 'reserved'),
    ('order', 'reserve_unknown', 'rejected'),
    ('order', 'reserve_unknown', 'cancelling'),
    ('order', 'reserved', 'confirming'),
    ('order', 'reserved', 'cancelling'),
    ('order', 'reserved', 'expired'),
    ('order', 'confirming', 'confirmed'),
    ('order', 'confirming', 'confirm_unknown'),
    ('order', 'confirming', 'expired'),
    ('order', 'confirm_unknown', 'confirmed'),
    ('order', 'confirm_unknown', 'expired'),
    ('order', 'cancelling', 'cancelled'),
    ('order', 'cancelling', 'cancel_unknown'),
    ('order', 'cancel_unknown', 'cancelled');

CREATE TABLE orders (
    -- UUIDv7, so that the order of ids is the order of creation.
    id             uuid        PRIMARY KEY,
    principal      text        NOT NULL,
    customer_id    text        NOT NULL,
    lines          jsonb       NOT NULL,
    status         text        NOT NULL,
    reservation_id uuid        NOT NULL,
    hold_seconds   bigint      NOT NULL,
    -- Inventory's word on when the hold ends.
    expires_at     timestamptz,
    correlation_id text        NOT NULL,
    trace_id       text,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    -- The newest journal entry: the next one is chained to it.
    version        bigint      NOT NULL,
    head_hash      bytea       NOT NULL,
    head_entry     uuid        NOT NULL,
    -- Its hybrid time, so that any replica's next entry is after it.
    head_clock     text        NOT NULL,
    -- Its correlation id: whoever finishes what that entry began does so under the same name.
    head_correlation_id text   NOT NULL,
    -- Who works on it. Taking it raises the epoch, and every later write names the epoch it was taken under, so
    -- that one who was given up for dead writes nothing.
    epoch          bigint      NOT NULL,
    holder         text        CHECK (holder IN ('request', 'reconciler')),
    -- When the reconciler may take it: the end of the holder's lease, or of a back-off. Null when at rest.
    due_at         timestamptz,
    -- Tries since the last definite answer.
    tries          integer     NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE INDEX orders_by_principal ON orders (principal, id);
CREATE INDEX orders_due ON orders (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX orders_expiring ON orders (expires_at) WHERE status = 'reserved';

GRANT SELECT ON transitions TO mainstay_order;
GRANT SELECT, INSERT ON journal TO mainstay_order;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO mainstay_order;
GRANT SELECT, INSERT, UPDATE ON orders TO mainstay_order;
GRANT SELECT ON _sqlx_migrations TO mainstay_order;
