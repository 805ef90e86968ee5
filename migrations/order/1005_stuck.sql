-- Orders whose tries fail by themselves, while inventory serves other orders, are set apart.

-- Tries since the last definite answer that failed while other orders were served.
ALTER TABLE orders ADD COLUMN failed_alone integer NOT NULL DEFAULT 0;
