//! Panic hook that writes a panic as a log line, so that all output of the process has one format.

use std::panic::{self, PanicHookInfo};

pub(crate) fn install_hook() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let location = info.location().map(ToString::to_string);
        let message = info.payload_as_str().unwrap_or("no message");
        tracing::error!(target: "panic", location, panic = message, "a thread panicked");
    }));
}
