-- The PostgreSQL clusters that the journal has lived in. Transaction ids are a cluster's own: after a restore into
-- another one the stored ids say nothing there, and may lie above all that it has given out.
CREATE TABLE journal_clusters (
    -- How often the journal has come from another cluster.
    epoch             integer     PRIMARY KEY CHECK (epoch >= 0),
    -- From pg_control_system(); null where the owner may not read it.
    system_identifier bigint,
    -- Entries up to this one were written in earlier clusters. They are read by seq alone; their xid is not looked at.
    history_end       bigint      NOT NULL CHECK (history_end >= 0),
    noticed_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The sequence gives no number below 1. Entries that are there already are not looked at, so that none of them can
-- stop a migration: `verify` counts them.
ALTER TABLE journal ADD CONSTRAINT journal_seq_is_positive CHECK (seq > 0) NOT VALID;
