-- Keys are also looked for by their hash alone, by the feed, and by when they were answered, to be forgotten.

ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey;
ALTER TABLE idempotency ADD CONSTRAINT idempotency_pkey PRIMARY KEY (key_hash, principal);

-- Where keys have been forgotten new ones take their room, so a summary of blocks soon excludes none of them.
DROP INDEX idempotency_by_completion;
CREATE INDEX idempotency_by_completion ON idempotency (completed_at) WHERE completed_at IS NOT NULL;
