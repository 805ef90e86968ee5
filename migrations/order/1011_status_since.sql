-- The age of a waiting order, by the database's clock alone. `updated_at` is the time of the service's clock, and the two
-- may be hours apart. Null in a row that was written before this migration; a release before it sets the column when it
-- places an order, by the default, and not when it moves one.
ALTER TABLE orders ADD COLUMN status_since timestamptz;
ALTER TABLE orders ALTER COLUMN status_since SET DEFAULT clock_timestamp();
