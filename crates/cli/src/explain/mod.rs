//! The story of one order, from both journals: what happened, why, what was refused, what was not known and when
//! it became known.

mod find;
mod picture;
mod text;
mod timeline;
mod words;

pub(crate) use find::{Feeds, Found};
pub(crate) use picture::picture;
pub(crate) use text::{Detail, text};
pub(crate) use timeline::{Timeline, WaitKind};
pub(crate) use words::span;
