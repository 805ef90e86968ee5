//! Structs that are read from the rows of a query.

/// Implements `sqlx::FromRow` for a struct: each field is the column of its name. Fields after `..` are structs that are
/// read from the same row.
///
/// The derive macro of sqlx does the same, but compiles sqlx a second time for the compiler.
#[macro_export]
macro_rules! from_row {
    ($name:ident { $($column:ident),+ $(, ..$part:ident)* }) => {
        impl<'r> ::sqlx::FromRow<'r, ::sqlx::postgres::PgRow> for $name {
            fn from_row(row: &'r ::sqlx::postgres::PgRow) -> Result<Self, ::sqlx::Error> {
                Ok(Self {
                    $($column: ::sqlx::Row::try_get(row, stringify!($column))?,)+
                    $($part: ::sqlx::FromRow::from_row(row)?,)*
                })
            }
        }
    };
}
