-- The serving role gives every column of an entry but its number and its transaction id: those place the entry in the
-- feed, and only their defaults may do so.
REVOKE INSERT ON journal FROM mainstay_inventory;
GRANT INSERT (id, aggregate_kind, aggregate_id, version, from_state, to_state, correlation_id, trace_id, key_hash, body,
    hash) ON journal TO mainstay_inventory;
GRANT SELECT ON journal_clusters TO mainstay_inventory;
