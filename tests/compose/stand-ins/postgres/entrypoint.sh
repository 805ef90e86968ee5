#!/usr/bin/env bash
# Creates the data directory and runs the initialisation files at the first start, and then executes the server. During
# the initialisation the server listens on its Unix socket only, as in the upstream image.
set -euo pipefail

if [ "$1" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  chown -R postgres "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:?POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set}")}
  user=${POSTGRES_USER:-postgres}
  # shellcheck disable=SC2086 # the variable holds several arguments, as in the upstream image
  initdb -U "$user" --pwfile=<(printf '%s\n' "$password") ${POSTGRES_INITDB_ARGS:-} -D "$PGDATA"
  printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  printf "listen_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
  for file in /docker-entrypoint-initdb.d/*; do
    case "$file" in
    *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
    *.sql) psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc -U "$user" -d "${POSTGRES_DB:-$user}" -f "$file" ;;
    esac
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"
