//! Shrinking of a failing list to a small part that still fails.
//!
//! The algorithm removes the whole list, then halves, quarters and so on down to single items, and keeps each removal
//! after which the rest still fails (after the ddmin algorithm of Zeller and Hildebrandt, 2002).

/// A part of `items` that fails and from which no single item can be removed without `fails` returning false.
///
/// `fails` is not called for the whole list, which is known to fail.
pub async fn smallest<T: Clone>(mut items: Vec<T>, mut fails: impl AsyncFnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = items.len();
    while !items.is_empty() {
        let (mut from, before) = (0, items.len());
        while from < items.len() {
            let until = items.len().min(from + size);
            let rest = [&items[..from], &items[until..]].concat();
            if fails(&rest).await {
                items = rest;
            } else {
                from = until;
            }
        }
        if size == 1 && items.len() == before {
            break;
        }
        size = size.div_ceil(2).max(1);
    }
    items
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    /// Shrinks `0..length` for a predicate that needs all items of `needed`. Also returns the number of its calls.
    fn shrunk(length: u32, needed: &[u32]) -> (Vec<u32>, u32) {
        let calls = Cell::new(0);
        let fails = async |items: &[u32]| {
            calls.set(calls.get() + 1);
            needed.iter().all(|need| items.contains(need))
        };
        let left = smallest((0..length).collect(), fails).now_or_never();
        (left.unwrap(), calls.get())
    }

    #[test]
    fn a_failure_that_needs_no_item_shrinks_to_the_empty_list_in_one_call() {
        assert_eq!(shrunk(40, &[]), (vec![], 1));
    }

    #[test]
    fn one_needed_item_of_many_is_found_by_halving() {
        let (left, calls) = shrunk(64, &[41]);
        assert_eq!(left, [41]);
        assert!(calls <= 16, "{calls} calls");
    }

    #[test]
    fn items_that_fail_only_together_are_all_kept() {
        assert_eq!(shrunk(20, &[0, 7, 19]).0, [0, 7, 19]);
    }

    /// Not every failure needs certain items: here any two even items are enough.
    #[test]
    fn no_single_item_can_be_removed_from_the_result() {
        let fails = async |items: &[u32]| items.iter().filter(|item| *item % 2 == 0).count() >= 2;
        let left = smallest((0..17).collect(), fails).now_or_never().unwrap();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|item| item % 2 == 0), "{left:?}");
    }

    proptest! {
        #[test]
        fn exactly_the_needed_items_are_left(
            length in 1..60_u32,
            draws in proptest::collection::btree_set(0..60_u32, 0..6),
        ) {
            let needed: Vec<u32> = draws.into_iter().filter(|need| *need < length).collect();
            prop_assert_eq!(shrunk(length, &needed).0, needed);
        }
    }
}
