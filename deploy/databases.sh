#!/bin/sh
# Run once by the Postgres image, when its data directory is made: each service's two roles and its database, from
# the same SQL that `mainstay up` uses. Neither service can connect to the other's database.
set -eu

for service in order inventory; do
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=service="$service" --username=postgres --dbname=postgres <<'SQL'
-- A statement that failed would be logged with its password.
SET log_min_error_statement = 'panic';

\set serving mainstay_ :service
\set owner :serving _owner
\set serving_password `cat /run/credentials/:serving`
\set owner_password `cat /run/credentials/:owner`

\o /dev/null
SELECT set_config('mainstay.serving', :'serving', false), set_config('mainstay.serving_password', :'serving_password', false),
       set_config('mainstay.owner', :'owner', false), set_config('mainstay.owner_password', :'owner_password', false);
\i /run/migrations/roles.sql
CREATE DATABASE :serving OWNER :owner;

\connect :serving
SELECT set_config('mainstay.serving', :'serving', false), set_config('mainstay.owner', :'owner', false);
\i /run/migrations/database.sql
SQL
done

# Everybody may connect to a database unless somebody says otherwise.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres \
  --command='REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC'
