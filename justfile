# The commands that people type. `just` is a convenience: each line works without it.

# What can be done.
default:
    @just --list

# The demo: the pair fails and recovers; about a minute after the build.
demo:
    cargo run --release

# The pair, until Ctrl-C: `just up --port-base 18080`.
up *arguments:
    cargo run --release -- up {{arguments}}

# What happened to an order, and why.
explain id:
    cargo run --release -- explain {{id}}

# Both journals against the invariants.
verify *arguments:
    cargo run --release -- verify {{arguments}}

# All tests, or those of one crate: `just test -p journal`, `just test -p pair-tests --test it races`.
test *arguments="--workspace":
    cargo test {{arguments}}

# Format and lints, as the checks want them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Links, numbered rules, the contract, line endings: `just docs --fix` first moves line links.
docs *arguments:
    .ci/check-docs {{arguments}}
    .ci/check-line-endings

# Everything that decides whether a change may land.
ci:
    .ci/run
