#![no_main]

#[path = "../../tests/parsers/properties.rs"]
#[allow(dead_code)] // each target has one of them
mod properties;

libfuzzer_sys::fuzz_target!(|value: &[u8]| properties::attempt(value));
