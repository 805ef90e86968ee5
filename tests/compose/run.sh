#!/usr/bin/env bash
# Runs the test of the containers: makes the missing base images available, builds the images of docker-compose.yml, and
# starts a separate stack, which is removed when the test ends for any reason. Arguments go to the test: `--list`, part of
# a test's name.
#
# The script needs a docker daemon and docker compose (2 or 1.29). If no image registry can be reached, it also needs the
# tools that base-images.sh names.
set -euo pipefail
cd "$(dirname "$0")/../.."

began=$SECONDS
tests/compose/base-images.sh
printf 'the base images are ready after %d s\n' $((SECONDS - began))
# Build the whole workspace, so that cargo reuses the artifacts of the workspace's tests.
cargo test --quiet --workspace --features pair-tests/compose --test compose -- "$@"
printf 'the test of the containers took %d s\n' $((SECONDS - began))
