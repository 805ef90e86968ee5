#!/usr/bin/env bash
# The containers' own test, from nothing: base images that are missing, the images of docker-compose.yml, and a stack
# of its own that is taken down again whatever happens. Arguments go to the test: `--list`, part of a test's name.
#
# Needs a docker daemon, docker compose (2 or 1.29), and what base-images.sh needs where no registry is reached.
set -euo pipefail
cd "$(dirname "$0")/../.."

began=$SECONDS
tests/compose/base-images.sh
printf 'the base images are there after %d s\n' $((SECONDS - began))
# The whole workspace, so that nothing is built again that its tests were built with.
cargo test --quiet --workspace --features pair-tests/compose --test compose -- "$@"
printf 'the whole took %d s\n' $((SECONDS - began))
