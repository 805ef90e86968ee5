#!/usr/bin/env bash
# Makes the three upstream images that docker-compose.yml and the Dockerfile start from available where no image
# registry can be reached. An image that is present is used as it is; one that can be pulled is pulled; only what
# is left is built here, under the upstream name, from Debian packages and this machine's Rust toolchain.
#
#   tests/compose/base-images.sh            make the images available
#   tests/compose/base-images.sh --remove   remove the stand-ins (and only them), so that the next use pulls
#
# Needs root (a stand-in's root file system is made by debootstrap) and a reachable Debian mirror.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
label=mainstay.stand-in
debian=debian:bookworm-slim
postgres=postgres:15-bookworm
rust=rust:1.95-bookworm

say() { printf 'base-images: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

if [ "${1:-}" = --remove ]; then
  for image in "$postgres" "$rust" "$debian"; do
    [ -z "$(docker image ls -q --filter "label=$label" "$image")" ] || docker image rm "$image"
  done
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Succeeds when the image is present, if need be after a pull.
available() {
  docker image inspect "$1" >/dev/null 2>&1 && return 0
  timeout 600 docker pull -q "$1" >/dev/null 2>&1 && return 0
  say "$1 is neither present nor to be pulled: building a stand-in"
  return 1
}

build_debian() {
  [ "$(id -u)" = 0 ] || fail "the stand-in for $debian needs root: debootstrap makes device nodes and changes root"
  local tool=debootstrap
  if ! command -v debootstrap >/dev/null; then
    # Unpacked from its package, not installed.
    (cd "$scratch" && { apt-get -q download debootstrap || { apt-get -q update && apt-get -q download debootstrap; }; }) \
      >"$scratch/download.log" 2>&1 || { cat "$scratch/download.log" >&2 && fail "debootstrap cannot be had"; }
    dpkg -x "$scratch"/debootstrap_*.deb "$scratch/tool"
    export DEBOOTSTRAP_DIR=$scratch/tool/usr/share/debootstrap
    tool=$scratch/tool/usr/sbin/debootstrap
  fi
  "$tool" --variant=minbase bookworm "$scratch/debian" >"$scratch/debootstrap.log" 2>&1 || {
    tail -n 20 "$scratch/debootstrap.log" >&2
    fail "debootstrap failed"
  }
  rm -rf "$scratch"/debian/var/cache/apt/archives/*.deb "$scratch"/debian/var/lib/apt/lists/* \
    "$scratch"/debian/usr/share/{doc,man,locale}/* "$scratch"/debian/var/log/*.log
  # As in the upstream image, no service starts while a package is installed.
  printf '#!/bin/sh\nexit 101\n' >"$scratch/debian/usr/sbin/policy-rc.d"
  chmod 0755 "$scratch/debian/usr/sbin/policy-rc.d"
  tar -C "$scratch/debian" -c . | docker import --change 'CMD ["bash"]' --change "LABEL $label=true" - "$debian" >/dev/null
}

build_postgres() {
  docker build -q -t "$postgres" "$here/stand-ins/postgres" >/dev/null
}

# The parts of a cargo configuration that say where packages come from. Build settings of this machine stay here,
# and so does anything that could be a credential.
registry_configuration() {
  awk '/^[[:space:]]*\[/ { keep = /^[[:space:]]*\[+(source|registr|net|http)/ } keep && !/token|credential/' "$1"
}

build_rust() {
  local sysroot context=$scratch/rust
  sysroot=$(cd "$here" && rustc --print sysroot)
  case "$("$sysroot/bin/rustc" --version)" in
  "rustc 1.95."*) ;;
  *) fail "the stand-in for $rust needs Rust 1.95; $sysroot has $("$sysroot/bin/rustc" --version)" ;;
  esac
  mkdir -p "$context"/{toolchain,cargo,certificates}
  tar -C "$sysroot" -c --exclude='lib/rustlib/src' --exclude='lib/rustlib/m*' bin/rustc bin/cargo lib |
    tar -C "$context/toolchain" -x --no-same-owner
  local configuration
  for configuration in "${CARGO_HOME:-$HOME/.cargo}"/config{.toml,}; do
    [ ! -f "$configuration" ] || { registry_configuration "$configuration" >"$context/cargo/config.toml" && break; }
  done
  # A machine behind a proxy trusts authorities of its own: the ones it trusts are trusted in its builds.
  for certificates in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt; do
    [ ! -f "$certificates" ] || { cp -L "$certificates" "$context/certificates/ca-certificates.crt" && break; }
  done
  cp "$here/stand-ins/rust/Dockerfile" "$context/"
  docker build -q -t "$rust" "$context" >/dev/null
}

available "$debian" || build_debian
available "$postgres" || build_postgres
available "$rust" || build_rust
say "ready: $debian $postgres $rust"
