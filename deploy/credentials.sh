#!/bin/sh
# Creates the passwords and tokens of a demonstration at its first start, so that the repository contains none, and
# prints a token on request. A real deployment mounts its own secrets at the same paths instead.
#
#   credentials make           creates missing credentials, keeps existing ones
#   credentials token NAME     prints the token of client, client2 or operator
#
# /credentials/all holds every secret once, and only this container mounts it. The secrets of each other container are
# in a volume that only that container mounts. So a service never sees the password of its owner role or the other
# service's password.
set -eu
umask 077
all=/credentials/all

# Replaces file $1 in one step with the standard input and sets its mode to $2.
put() {
  cat >"$1.new"
  chmod "$2" "$1.new"
  mv "$1.new" "$1"
}

# Prints secret $1: 192 random bits in hex, created at its first use.
secret() {
  [ -s "$all/$1" ] || od -An -vtx1 -N24 /dev/urandom | tr -d ' \n' | put "$all/$1" 0600
  cat "$all/$1"
}

# Prints a line of a tokens file: role, principal, SHA-256 of the token.
token_line() {
  hash=$(secret "token-$2" | sha256sum)
  echo "$1 $2 ${hash%% *}"
}

# Prints the lines of the tokens that both services accept.
shared_token_lines() {
  token_line client client
  token_line client client2
  token_line operator operator
}

# Prints a line of a PostgreSQL password file for database $1 and role $2.
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
  shared_token_lines | put /credentials/order/tokens 0400
  secret token-order | put /credentials/order/inventory-token 0400
  { shared_token_lines && token_line service order; } | put /credentials/inventory/tokens 0400
}

case "${1:-} ${2:-}" in
"make ") make ;;
"token client" | "token client2" | "token operator") secret "token-$2" && echo ;;
*) sed -n '5,6s/^# *//p' "$0" >&2 && exit 2 ;;
esac
