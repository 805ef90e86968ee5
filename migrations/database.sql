-- Who may do what in one service's database. Run in that database as a superuser or as its owner, with
--   mainstay.owner, mainstay.serving
-- in the session. Tables and what the serving role may do with each are the migrations' business.
DO $$
DECLARE
    database text := current_database();
    owner text := current_setting('mainstay.owner');
    serving text := current_setting('mainstay.serving');
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO %I', database, owner);
    -- Everybody may connect to a new database and make temporary tables in it, the other service included.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', database);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I, %I', database, owner, serving);
    -- Before PostgreSQL 15 everybody may create tables in `public`.
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA public TO %I', owner);
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', serving);
END
$$;
