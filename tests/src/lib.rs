//! pair-tests
