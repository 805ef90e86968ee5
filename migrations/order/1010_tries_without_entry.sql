-- Tries that decided nothing have no journal entry. Their requests are counted on the order's row, so that an operator
-- can tell a request that was sent from one that was refused before sending.
ALTER TABLE orders
    -- Requests of such tries that left this service, since the order was placed.
    ADD COLUMN fruitless_sent    bigint NOT NULL DEFAULT 0,
    -- Requests of such tries that a breaker, a limit or the deadline refused unsent.
    ADD COLUMN fruitless_refused bigint NOT NULL DEFAULT 0,
    -- Requests of such tries for which there was no connection.
    ADD COLUMN fruitless_unconnected bigint NOT NULL DEFAULT 0,
    -- Why the latest such try decided nothing.
    ADD COLUMN fruitless_why     text;
