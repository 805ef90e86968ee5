# Images of docker-compose.yml, one target each: credentials, order, inventory.
#
# The file builds with the classic builder and with BuildKit, and needs only the package registry from the network.
# Therefore it has no `# syntax=` line, which is fetched from an image registry, and no cache mount, which the classic
# builder refuses. Instead, the dependencies are built in a separate layer.

FROM debian:bookworm-slim AS runtime
RUN groupadd --gid 10001 mainstay \
 && useradd --uid 10001 --gid mainstay --no-create-home --home-dir / --shell /usr/sbin/nologin mainstay
USER 10001:10001

# Creates the passwords and tokens of a demonstration. Empty volumes take their owner from the directories of this image.
FROM runtime AS credentials
USER root
COPY deploy/credentials.sh /usr/local/bin/credentials
RUN chmod 0755 /usr/local/bin/credentials \
 && install -d -o mainstay -g mainstay -m 0700 /credentials/all /credentials/order /credentials/order-owner \
      /credentials/inventory /credentials/inventory-owner \
 && install -d -o mainstay -g mainstay -m 0755 /credentials/postgres
USER 10001:10001
ENTRYPOINT ["credentials"]
CMD ["make"]

# The manifests of the workspace, with stubs in place of the code. The layers below copy them, so a change of code does not
# invalidate the layer of built dependencies. No image contains tests or benchmarks.
FROM rust:1.95-bookworm AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name lib.rs ! -name main.rs \
      ! -path '*/src/bin/*.rs' ! -name build.rs -delete \
 && find . -type d -empty -delete \
 && find . -name '*.rs' | while read -r file; do echo 'fn main() {}' > "$file"; done \
 && find . -name Cargo.toml -exec sed -i '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' {} + \
 && find . -exec chmod u=rwX,go=rX {} +

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY --from=manifests /src .
# The cargo profile. `dev` builds faster; tests/compose uses it.
ARG PROFILE=dist
# Further cargo features of the services.
ARG FEATURES=
RUN cargo build --profile $PROFILE --locked -p order-service -p inventory-service --features "$FEATURES"
COPY crates crates
COPY services services
COPY migrations migrations
# Source revision, which the binaries write into every journal entry.
ARG MAINSTAY_REVISION=unknown
# Copied sources keep their modification times, which are older than the stubs built above. `touch` makes them newer, so
# that cargo builds them.
RUN find crates services -name '*.rs' -exec touch {} + \
 && MAINSTAY_REVISION=$MAINSTAY_REVISION cargo build --profile $PROFILE --locked -p order-service -p inventory-service \
      --features "$FEATURES" \
 && cp target/*/mainstay-order target/*/mainstay-inventory /usr/local/bin/

FROM runtime AS order
COPY --from=build /usr/local/bin/mainstay-order /usr/local/bin/
EXPOSE 8080 9080
ENTRYPOINT ["mainstay-order"]
CMD ["serve"]

FROM runtime AS inventory
COPY --from=build /usr/local/bin/mainstay-inventory /usr/local/bin/
EXPOSE 8081 9081
ENTRYPOINT ["mainstay-inventory"]
CMD ["serve"]
