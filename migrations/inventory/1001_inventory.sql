-- Inventory's own tables, its legal moves, and what its serving role may do.

CREATE TABLE items (
    -- Byte order, so that locks are taken and pages are cut in the same order everywhere.
    sku       text COLLATE "C" PRIMARY KEY,
    name      text   NOT NULL,
    on_hand   bigint NOT NULL,
    held      bigint NOT NULL DEFAULT 0,
    -- Of the item's own entries (created, received). Reservations move on_hand and held, and have their own
    -- entries; stock is the fold of both.
    version   bigint NOT NULL CHECK (version > 0),
    head_hash bytea  NOT NULL CHECK (octet_length(head_hash) = 32),
    hlc       text   NOT NULL,
    entry_id  uuid   NOT NULL,
    CHECK (0 <= held AND held <= on_hand)
    -- Half of each page stays free, so that the many updates of a popular item stay on its page and touch no index.
) WITH (fillfactor = 50);

CREATE TABLE reservations (
    id             uuid        PRIMARY KEY,
    -- Null for one that was voided before it was seen.
    order_id       uuid,
    status         text        NOT NULL
        CHECK (status IN ('held', 'confirmed', 'released', 'expired', 'refused', 'voided')),
    -- [{"sku": …, "quantity": …}, …] as it was asked for.
    lines          jsonb       NOT NULL,
    hold_seconds   bigint,
    expires_at     timestamptz,
    version        bigint      NOT NULL CHECK (version > 0),
    head_hash      bytea       NOT NULL CHECK (octet_length(head_hash) = 32),
    hlc            text        NOT NULL,
    -- Its newest entry, and the request that it came to be in: the causes of its expiry.
    entry_id       uuid        NOT NULL,
    correlation_id text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (status <> 'held' OR expires_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX reservations_one_live_per_order ON reservations (order_id)
    WHERE status IN ('held', 'confirmed');
CREATE INDEX reservations_due ON reservations (expires_at) WHERE status = 'held';

INSERT INTO transitions (aggregate_kind, from_state, to_state) VALUES
    ('item', 'none', 'stocked'),
    ('item', 'stocked', 'stocked'),
    ('reservation', 'none', 'held'),
    ('reservation', 'none', 'refused'),
    ('reservation', 'none', 'voided'),
    ('reservation', 'held', 'confirmed'),
    ('reservation', 'held', 'released'),
    ('reservation', 'held', 'expired');

-- The owner migrates; the service runs as another role, which can change the present but not the past. What either
-- may do with the database and its schema is in ../database.sql.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, mainstay_inventory;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, mainstay_inventory;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, mainstay_inventory;
GRANT SELECT ON _sqlx_migrations, transitions TO mainstay_inventory;
GRANT SELECT, INSERT ON journal TO mainstay_inventory;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO mainstay_inventory;
GRANT SELECT, INSERT, UPDATE ON items, reservations TO mainstay_inventory;
