//! Every header parser against any bytes, and against nearly valid values.
#![allow(clippy::unwrap_used)]

mod properties;

use proptest::prelude::*;

/// Any bytes, or text close to the parser's format.
fn near(pattern: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let text = proptest::string::string_regex(pattern).unwrap().prop_map(String::into_bytes);
    prop_oneof![3 => text, 1 => proptest::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #[test]
    fn deadlines(value in near("[+-]?[0-9]{0,12}(\\.[0-9])?")) {
        properties::deadline(&value);
    }

    #[test]
    fn attempts(value in near("[+-]?[0-9]{0,6}")) {
        properties::attempt(&value);
    }

    #[test]
    fn traces(value in near("[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-fA-F]{16}-[0-9a-f]{2}(-x)?(\n[a-z]{1,5}=[ -~]{0,600})?")) {
        properties::trace(&value);
    }

    #[test]
    fn good_traces(value in "0[01]-[0-9a-f]{32}-[0-9a-f]{16}-0[01]") {
        properties::trace(value.as_bytes());
    }

    #[test]
    fn correlation_ids(value in near("[A-Za-z0-9._ -]{0,70}")) {
        properties::correlation_id(&value);
    }

    #[test]
    fn priorities(value in near("critical|default|degraded|sheddable|Critical|default | ")) {
        properties::priority(&value);
    }

    #[test]
    fn retry_afters(
        value in near("([0-9]{0,25}|[SFM][a-z]{2}, [0-3][0-9] Nov [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT)(\nSat, 21 Nov 2026 10:00:00 GMT)?"),
    ) {
        properties::retry_after(&value);
    }

    #[test]
    fn outcomes(value in near("not-executed|refused|unknown|Refused|not executed")) {
        properties::outcome(&value);
    }
}
