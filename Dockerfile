# The images of docker-compose.yml, one target each: credentials, order, inventory.
#
# Builds alike with the classic builder and with BuildKit, and with no network but the package registry's. That is
# why there is no `# syntax=` line (it is fetched from an image registry) and no cache mount (the classic builder
# refuses them): the dependencies are a layer of their own instead.

FROM debian:bookworm-slim AS runtime
RUN groupadd --gid 10001 mainstay \
 && useradd --uid 10001 --gid mainstay --no-create-home --home-dir / --shell /usr/sbin/nologin mainstay
USER 10001:10001

# Makes the passwords and tokens of a demonstration. Its directories are where empty volumes take their owner from.
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

# The workspace without its code: the same manifests whatever the code says, so that the layers below which are
# copied from here change when a dependency does and not otherwise. Tests and benchmarks are in no image.
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
# The cargo profile. `dev` is built sooner; tests/compose takes it.
ARG PROFILE=release
RUN cargo build --profile $PROFILE --locked -p order-service -p inventory-service
COPY crates crates
COPY services services
COPY migrations migrations
# What the binaries say of themselves in every journal entry.
ARG MAINSTAY_REVISION=unknown
# Sources keep the times they had outside, which are older than the stubs built above: make them newer.
RUN find crates services -name '*.rs' -exec touch {} + \
 && MAINSTAY_REVISION=$MAINSTAY_REVISION cargo build --profile $PROFILE --locked -p order-service -p inventory-service \
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
