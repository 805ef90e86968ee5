//! pair-benches
