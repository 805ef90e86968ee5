#!/bin/sh
# Creates the two roles and the database of each service, with the same SQL that `mainstay up` uses. The PostgreSQL image
# runs this script once, when it creates its data directory. A service cannot connect to the other service's database.
set -eu

for service in order inventory; do
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=service="$service" --username=postgres --dbname=postgres <<'SQL'
-- By default the server logs a failed statement, and these statements contain passwords.
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

# By default every role may connect to every database.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres \
  --command='REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC'
