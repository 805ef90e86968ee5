-- The two roles of one service, created or brought up to date. Run as a superuser (or a role that may
-- create roles), in any database, with these settings in the session:
--   mainstay.owner, mainstay.owner_password      owns the service's database and migrates it
--   mainstay.serving, mainstay.serving_password  what the running service connects as
-- Passwords change in a statement of their own: only it could show one in the server's log, and it has
-- nothing left to fail on once the role exists and may be altered.
DO $$
DECLARE
    role text;
BEGIN
    -- Altering one role from two sessions at once fails; this makes the second wait.
    PERFORM pg_advisory_xact_lock(hashtext('mainstay.roles'));
    FOREACH role IN ARRAY ARRAY['owner', 'serving'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_setting('mainstay.' || role)) THEN
            EXECUTE format('CREATE ROLE %I', current_setting('mainstay.' || role));
        END IF;
        EXECUTE format('ALTER ROLE %I LOGIN NOCREATEDB NOCREATEROLE INHERIT', current_setting('mainstay.' || role));
        EXECUTE format(
            'ALTER ROLE %I PASSWORD %L',
            current_setting('mainstay.' || role), current_setting('mainstay.' || role || '_password')
        );
    END LOOP;
    -- Only a member of a role may give it a database; a superuser is one of every role.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT %I TO current_user', current_setting('mainstay.owner'));
    END IF;
END
$$;
