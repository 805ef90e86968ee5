#![no_main]

#[path = "../../tests/parsers/properties.rs"]
#[allow(dead_code)] // each fuzz target uses one of the functions
mod properties;

libfuzzer_sys::fuzz_target!(|value: &[u8]| properties::retry_after(value));
