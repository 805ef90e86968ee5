//! The smallest part of a failing list that still fails: all of it, halves, quarters and so on down to single items are
//! taken out while the rest fails (after the ddmin of Zeller and Hildebrandt, 2002).

/// What is left when nothing more can be taken out: without any one of these items, `fails` says no. `fails` is not
/// asked about the whole list, which is known to fail.
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

    /// Shrinks `0..length` for a judge that wants all of `needed` there; gives how often it was asked too.
    fn shrunk(length: u32, needed: &[u32]) -> (Vec<u32>, u32) {
        let asked = Cell::new(0);
        let judge = async |items: &[u32]| {
            asked.set(asked.get() + 1);
            needed.iter().all(|need| items.contains(need))
        };
        let left = smallest((0..length).collect(), judge).now_or_never();
        (left.unwrap(), asked.get())
    }

    #[test]
    fn what_needs_nothing_shrinks_to_nothing_at_once() {
        assert_eq!(shrunk(40, &[]), (vec![], 1));
    }

    #[test]
    fn one_item_of_many_is_found_by_halves() {
        let (left, asked) = shrunk(64, &[41]);
        assert_eq!(left, [41]);
        assert!(asked <= 16, "asked {asked} times");
    }

    #[test]
    fn items_that_only_fail_together_are_found_together() {
        assert_eq!(shrunk(20, &[0, 7, 19]).0, [0, 7, 19]);
    }

    /// Not every failure is one of "all of these": here any two of the even ones will do.
    #[test]
    fn without_any_one_of_what_is_left_it_does_not_fail() {
        let judge = async |items: &[u32]| items.iter().filter(|item| *item % 2 == 0).count() >= 2;
        let left = smallest((0..17).collect(), judge).now_or_never().unwrap();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|item| item % 2 == 0), "{left:?}");
    }

    proptest! {
        #[test]
        fn exactly_what_is_needed_is_left(
            length in 1..60_u32,
            draws in proptest::collection::btree_set(0..60_u32, 0..6),
        ) {
            let needed: Vec<u32> = draws.into_iter().filter(|need| *need < length).collect();
            prop_assert_eq!(shrunk(length, &needed).0, needed);
        }
    }
}
