//! Reads protocol buffers in place: fields one after another, nothing copied, nothing made ready for lengths that are only
//! claimed. (A decoder that makes a message of every part takes a hundred bytes for each two of a hostile file.)

use crate::limits::TEXT_BYTES_MAX;

/// The bytes are no protocol buffer, end too early, or have a name that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// What a field holds, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Damaged> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(Damaged) }
    }

    /// A name or a label, of at most [`TEXT_BYTES_MAX`]: it may come to stand in an error.
    pub(crate) fn text(self) -> Result<&'a str, Damaged> {
        let bytes = self.bytes()?;
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(Damaged);
        }
        std::str::from_utf8(bytes).map_err(|_invalid| Damaged)
    }

    /// A signed number; protocol buffers write negative ones as their 64 bits.
    pub(crate) fn int(self) -> Result<i64, Damaged> {
        if let Value::Varint(number) = self { Ok(number.cast_signed()) } else { Err(Damaged) }
    }

    pub(crate) fn float(self) -> Result<f32, Damaged> {
        if let Value::Fixed32(bytes) = self { Ok(f32::from_le_bytes(bytes)) } else { Err(Damaged) }
    }
}

/// The fields of a message.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Damaged> {
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(array(&mut self.rest)?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).map_err(|_too_long| Damaged)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Damaged)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(array(&mut self.rest)?),
            // Groups are of a time before ONNX.
            _ => return Err(Damaged),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// A number of at most ten bytes, low bits first.
pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (first, others) = rest.split_first().ok_or(Damaged)?;
        *rest = others;
        let bits = u64::from(first & 0x7f);
        number |= bits.checked_shl(shift).unwrap_or(0);
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Damaged> {
    let (first, others) = rest.split_first_chunk::<N>().ok_or(Damaged)?;
    *rest = others;
    Ok(*first)
}

/// How many numbers are in a packed field; each ends with a byte whose top bit is clear.
pub(crate) fn packed_varints(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0x80 == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_wire_type_are_read_and_damage_ends_them() {
        let message = [
            [0x08, 0x96, 0x01].as_slice(), // 1: 150
            &[0x12, 0x02, b'o', b'k'],     // 2: "ok"
            &[0x1d, 0, 0, 0x80, 0x3f],     // 3: 1.0
            &[0x21, 1, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let fields: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
        assert_eq!(fields[0], (1, Value::Varint(150)));
        assert_eq!(fields[1].1.text(), Ok("ok"));
        assert_eq!(fields[2].1.float(), Ok(1.0));
        assert_eq!(fields[3], (4, Value::Fixed64([1, 0, 0, 0, 0, 0, 0, 0])));
        for end in [1, 2, 4, 6, 9, 13] {
            let last = Fields::of(&message[..end]).last().unwrap();
            assert_eq!(last, Err(Damaged), "cut at {end}");
        }
        assert_eq!(Fields::of(&[0x0b]).next(), Some(Err(Damaged)), "a group");
        assert_eq!(Fields::of(&[0xff; 20]).next(), Some(Err(Damaged)), "a number without an end");
    }

    #[test]
    fn length_past_the_end_is_damage_and_reserves_nothing() {
        assert_eq!(Fields::of(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]).next(), Some(Err(Damaged)));
    }
}
