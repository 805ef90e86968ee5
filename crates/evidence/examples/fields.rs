//! Prints the table of event fields: `cargo run -p evidence --example fields > docs/event-fields.md`.

fn main() {
    print!("{}", evidence::fields::markdown());
}
