//! Loom models of one limiter and a few threads: no permit is lost or granted twice, and every waiter is woken.

use std::future::poll_fn;

use loom::future::block_on;
use loom::thread;

use super::super::algorithm::Fixed;
use super::*;

/// A limiter with one permit and a queue that cannot stand, because the models have no clock.
fn limiter(queue: usize) -> Arc<Limiter> {
    let hour = Duration::from_hours(1);
    Limiter::new(Fixed::new(1), QueueConfig { capacity: Some(queue), target: hour, interval: hour * 2 })
}

/// A model of three threads with at most three preemptions. Three threads have too many interleavings to try all, and
/// faults that need more preemptions are rare (Musuvathi and Qadeer, PLDI 2007).
fn model_of_three(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn far() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

fn permit(limiter: &Arc<Limiter>) -> Permit {
    limiter.try_acquire(Priority::Default).expect("nothing is in flight")
}

fn ticket(limiter: &Arc<Limiter>) -> Ticket {
    match limiter.enter(Priority::Default, far()) {
        Ok(Err(ticket)) => ticket,
        other => panic!("expected a ticket, got {other:?}"),
    }
}

fn wait(mut ticket: Ticket) -> Result<Permit, Refusal> {
    block_on(poll_fn(|cx| ticket.poll(cx)))
}

fn assert_at_rest(limiter: &Limiter) {
    let now = limiter.snapshot();
    assert_eq!((now.in_flight, now.waiting), (0, [0; 4]));
}

#[test]
fn a_waiter_is_woken_whenever_the_permit_comes_free() {
    loom::model(|| {
        let limiter = limiter(1);
        let (held, ticket) = (permit(&limiter), ticket(&limiter));
        let releasing = thread::spawn(move || drop(held));
        drop(wait(ticket).expect("the permit comes free"));
        releasing.join().expect("no panic");
        assert_at_rest(&limiter);
    });
}

#[test]
fn a_waiter_that_leaves_while_it_is_served_loses_no_permit() {
    model_of_three(|| {
        let limiter = limiter(2);
        let (held, leaving, staying) = (permit(&limiter), ticket(&limiter), ticket(&limiter));
        let releasing = thread::spawn(move || drop(held));
        let left = thread::spawn(move || drop(leaving));
        drop(wait(staying).expect("the waiter that stays gets the permit"));
        releasing.join().expect("no panic");
        left.join().expect("no panic");
        assert_at_rest(&limiter);
    });
}

#[test]
fn two_requests_at_once_never_get_the_same_permit() {
    loom::model(|| {
        let limiter = limiter(1);
        let inside = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let enter = |limiter: &Arc<Limiter>, inside: &loom::sync::atomic::AtomicUsize| {
            let permit = match limiter.enter(Priority::Default, far()) {
                Ok(Ok(permit)) => permit,
                Ok(Err(ticket)) => wait(ticket).expect("the queue has room for both"),
                Err(refusal) => panic!("{refusal}"),
            };
            assert_eq!(inside.fetch_add(1, loom::sync::atomic::Ordering::SeqCst), 0);
            inside.fetch_sub(1, loom::sync::atomic::Ordering::SeqCst);
            drop(permit);
        };
        let other = thread::spawn({
            let (limiter, inside) = (Arc::clone(&limiter), Arc::clone(&inside));
            move || enter(&limiter, &inside)
        });
        enter(&limiter, &inside);
        other.join().expect("no panic");
        assert_at_rest(&limiter);
    });
}

#[test]
fn a_waiter_displaced_by_a_more_important_one_is_refused_as_displaced() {
    model_of_three(|| {
        let limiter = limiter(1);
        let (held, displaced) = (permit(&limiter), ticket(&limiter));
        let newcomer = thread::spawn({
            let limiter = Arc::clone(&limiter);
            move || match limiter.enter(Priority::Critical, far()) {
                Ok(Err(ticket)) => drop(wait(ticket).expect("served once the permit is free")),
                Ok(Ok(permit)) => drop(permit),
                Err(refusal) => panic!("{refusal}"),
            }
        });
        let releasing = thread::spawn(move || drop(held));
        match wait(displaced) {
            Ok(permit) => drop(permit),
            Err(refusal) => assert_eq!(refusal, Refusal::Displaced),
        }
        newcomer.join().expect("no panic");
        releasing.join().expect("no panic");
        assert_at_rest(&limiter);
    });
}
