//! A panic is a log line like any other, not loose text among JSON.

use std::panic::{self, PanicHookInfo};

pub(crate) fn log_them() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let location = info.location().map(ToString::to_string);
        let message = info.payload_as_str().unwrap_or("no message");
        tracing::error!(target: "panic", location, panic = message, "a thread panicked");
    }));
}
