//! The writer as serde wants it.

use serde::ser::{self, Error as _, Serialize, Serializer};
use serde_json::Error;

use super::{Member, Writer, is_plain};

macro_rules! scalars {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<(), Error> {
            self.scalar(&value)
        }
    )*};
}

impl<'w> Serializer for &'w mut Writer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Open<'w>;
    type SerializeTuple = Open<'w>;
    type SerializeTupleStruct = Open<'w>;
    type SerializeTupleVariant = Open<'w>;
    type SerializeMap = Open<'w>;
    type SerializeStruct = Open<'w>;
    type SerializeStructVariant = Open<'w>;

    scalars! {
        serialize_bool: bool, serialize_char: char,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_f32: f32, serialize_f64: f64,
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.scalar(&())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.scalar(&())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.scalar(&())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T>(self, _: &'static str, value: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        self.variant(variant);
        value.serialize(&mut *self)?;
        self.bytes.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'w>, Error> {
        Ok(self.open(b'[', "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'w>, Error> {
        Ok(self.open(b'[', "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open<'w>, Error> {
        Ok(self.open(b'[', "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'w>, Error> {
        self.variant(variant);
        Ok(self.open(b'[', "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'w>, Error> {
        Ok(self.open(b'{', "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'w>, Error> {
        Ok(self.open(b'{', "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'w>, Error> {
        self.variant(variant);
        Ok(self.open(b'{', "}}"))
    }
}

impl Writer {
    fn open(&mut self, opening: u8, closing: &'static str) -> Open<'_> {
        self.bytes.push(opening);
        Open { first: self.members.len(), writer: self, closing, is_empty: true }
    }

    /// The only member of an object, but for its value: how JSON has variants that hold something.
    fn variant(&mut self, name: &'static str) {
        self.bytes.push(b'{');
        self.quoted(name);
        self.bytes.push(b':');
    }
}

/// A list or an object that is not complete.
#[derive(Debug)]
pub(super) struct Open<'w> {
    writer: &'w mut Writer,
    /// Which of the writer's members is this one's first.
    first: usize,
    closing: &'static str,
    is_empty: bool,
}

impl Open<'_> {
    fn comma(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.writer.bytes.push(b',');
        }
    }

    fn element(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.comma();
        value.serialize(&mut *self.writer)
    }

    /// The name of a member was written, from where it `begins`.
    fn named(&mut self, begins: usize) {
        let Writer { bytes, members } = &mut *self.writer;
        members.push(Member { begins, name_ends: bytes.len(), ends: 0 });
        bytes.push(b':');
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        value.serialize(&mut *self.writer)?;
        if let Some(member) = self.writer.members.last_mut() {
            member.ends = self.writer.bytes.len();
        }
        Ok(())
    }

    /// A field of our own types, whose names have nothing to escape.
    fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        debug_assert!(is_plain(name), "{name}");
        self.comma();
        let begins = self.writer.bytes.len();
        self.writer.quoted(name);
        self.named(begins);
        self.value(value)
    }

    fn close(self) -> Result<(), Error> {
        self.writer.order(self.first)?;
        self.writer.bytes.extend_from_slice(self.closing.as_bytes());
        Ok(())
    }
}

/// The traits of what has elements, or fields with names, which differ in the name of their method.
macro_rules! compound {
    ($($kind:ident: $method:ident($($name:ident: $text:ty)?) as $how:ident;)*) => {$(
        impl ser::$kind for Open<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $text,)? value: &T) -> Result<(), Error> {
                self.$how($($name,)? value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}

compound! {
    SerializeSeq: serialize_element() as element;
    SerializeTuple: serialize_element() as element;
    SerializeTupleStruct: serialize_field() as element;
    SerializeTupleVariant: serialize_field() as element;
    SerializeStruct: serialize_field(name: &'static str) as field;
    SerializeStructVariant: serialize_field(name: &'static str) as field;
}

impl ser::SerializeMap for Open<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        let begins = self.writer.bytes.len();
        key.serialize(&mut *self.writer)?;
        if self.writer.bytes.get(begins) != Some(&b'"') {
            return Err(Error::custom("the name of a member is not a string"));
        }
        self.named(begins);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}
