//! Gives the source revision to the crate, as `MAINSTAY_REVISION`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=MAINSTAY_REVISION");
    let told = env::var("MAINSTAY_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = told.or_else(revision_of_clone).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=MAINSTAY_REVISION={revision}");
}

/// The commit that is checked out, in a release build. A debug build would be compiled again after each commit.
fn revision_of_clone() -> Option<String> {
    if env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    // The log of HEAD grows with each commit and each checkout; without one, HEAD itself changes.
    for path in ["logs/HEAD", "HEAD"] {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", path])?);
    }
    git(&["rev-parse", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
