#!/usr/bin/env bash
# Makes available the three upstream images that docker-compose.yml and the Dockerfile use, also without an image registry.
# A present image is used as it is. A missing image is pulled if possible. Otherwise the script builds a stand-in under the
# upstream name, from Debian packages and this machine's Rust toolchain.
#
#   tests/compose/base-images.sh            make the images available
#   tests/compose/base-images.sh --remove   remove only the stand-ins, so that docker pulls the images at their next use
#
# The script needs root, because debootstrap creates the root file system of a stand-in, and a reachable Debian mirror.
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

# Succeeds if image $1 is present or can be pulled.
available() {
  docker image inspect "$1" >/dev/null 2>&1 && return 0
  timeout 600 docker pull -q "$1" >/dev/null 2>&1 && return 0
  say "$1 is not present and cannot be pulled: building a stand-in"
  return 1
}

build_debian() {
  [ "$(id -u)" = 0 ] || fail "building the stand-in for $debian needs root: debootstrap creates device nodes and uses chroot"
  local tool=debootstrap
  if ! command -v debootstrap >/dev/null; then
    # Unpack debootstrap from its package without installing it.
    (cd "$scratch" && { apt-get -q download debootstrap || { apt-get -q update && apt-get -q download debootstrap; }; }) \
      >"$scratch/download.log" 2>&1 || { cat "$scratch/download.log" >&2 && fail "downloading debootstrap failed"; }
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
  # As in the upstream image, installing a package starts no service.
  printf '#!/bin/sh\nexit 101\n' >"$scratch/debian/usr/sbin/policy-rc.d"
  chmod 0755 "$scratch/debian/usr/sbin/policy-rc.d"
  tar -C "$scratch/debian" -c . | docker import --change 'CMD ["bash"]' --change "LABEL $label=true" - "$debian" >/dev/null
}

build_postgres() {
  docker build -q -t "$postgres" "$here/stand-ins/postgres" >/dev/null
}

# Prints the parts of cargo configuration $1 that name package sources. It leaves out build settings of this machine and
# lines that may contain credentials.
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
  # A machine behind a proxy may trust further certificate authorities. The stand-in trusts the same ones.
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
