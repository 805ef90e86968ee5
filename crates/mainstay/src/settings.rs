//! Declares settings: a struct whose fields have their defaults beside them, and a setter of the same name for each.
//! The structs are non-exhaustive, so that a new setting breaks no user.

macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:expr])*
                $(#[cfg($($cfg:tt)*)])?
                pub $field:ident: $type:ty = $default:expr,
            )*
        }
    ) => {
        $(#[$meta])*
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[cfg($($cfg)*)])?
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $(#[cfg($($cfg)*)])? $field: $default, )* }
            }
        }

        $crate::settings::setters! { $name { $( $(#[cfg($($cfg)*)])? $field: $type, )* } }
    };
}

macro_rules! setters {
    ($name:ident { $( $(#[cfg($($cfg:tt)*)])? $field:ident: $type:ty, )* }) => {
        impl $name {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](#structfield.", stringify!($field), ").")]
                $(#[cfg($($cfg)*)])?
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

pub(crate) use setters;
#[allow(unused_imports)] // a build may have no layer with settings
pub(crate) use settings;
