#!/bin/sh
# Makes the passwords and tokens of a demonstration at its first start, so that none is in the repository, and
# prints the token a person asks for. A real deployment mounts its own secrets at the same paths instead.
#
#   credentials make           makes what is missing, keeps what there is
#   credentials token NAME     prints the token of client, client2 or operator
#
# /credentials/all holds every secret once and is seen by this container only. What each other container needs is
# written to a volume that it alone mounts: a service never sees its owner role's password or its peer's.
set -eu
umask 077
all=/credentials/all

# Replaces a file as a whole with what is on standard input.
put() {
  cat >"$1.new"
  chmod "$2" "$1.new"
  mv "$1.new" "$1"
}

# 192 random bits in hex, made once.
secret() {
  [ -s "$all/$1" ] || od -An -vtx1 -N24 /dev/urandom | tr -d ' \n' | put "$all/$1" 0600
  cat "$all/$1"
}

# A line of a tokens file: role, principal, SHA-256 of the token.
known() {
  hash=$(secret "token-$2" | sha256sum)
  echo "$1 $2 ${hash%% *}"
}

people() {
  known client client
  known client client2
  known operator operator
}

# A password file as every Postgres client reads it.
pgpass() {
  echo "postgres:5432:$1:$2:$(secret "password-$2")"
}

make() {
  secret password-postgres | put /credentials/postgres/superuser 0444
  for name in order inventory; do
    database=mainstay_$name
    owner=${database}_owner
    pgpass "$database" "$database" | put "/credentials/$name/pgpass" 0600
    pgpass "$database" "$owner" | put "/credentials/$name-owner/pgpass" 0600
    for role in "$database" "$owner"; do
      secret "password-$role" | put "/credentials/postgres/$role" 0444
    done
  done
  people | put /credentials/order/tokens 0400
  secret token-order | put /credentials/order/inventory-token 0400
  { people && known service order; } | put /credentials/inventory/tokens 0400
}

case "${1:-} ${2:-}" in
"make ") make ;;
"token client" | "token client2" | "token operator") secret "token-$2" && echo ;;
*) sed -n '5,6s/^# *//p' "$0" >&2 && exit 2 ;;
esac
