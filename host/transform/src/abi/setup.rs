//! The interface `setup`: what a guest declares and is handed inside `configure`.
//!
//! Its refusals are the same texts that the Rust SDK's in-memory `Setup` gives, so that a plugin's unit tests see what its
//! users will.

use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::{AbiCause, AbiError, configuring};
use crate::instance::Guest;
use crate::limits::{FIELDS_MAX, FILE_READ_BYTES_MAX, KEYS_BYTES_MAX, PATH_STEPS_MAX};

type Store<'a> = StoreContextMut<'a, Guest>;

pub(super) fn add_to_linker(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.func_wrap("field", |mut store: Store<'_>, (path,): (Vec<String>,)| {
        let guest = configuring(&mut store, "setup.field")?;
        if path.is_empty() || path.len() > PATH_STEPS_MAX {
            let cause = AbiCause::Path { steps: path.len(), limit: PATH_STEPS_MAX };
            return Err(AbiError::trap("setup.field", cause));
        }
        let declared = &mut guest.declared;
        if declared.fields.len() >= FIELDS_MAX {
            return Err(AbiError::trap("setup.field", AbiCause::TooManyFields { limit: FIELDS_MAX }));
        }
        declared.key_bytes += path.iter().map(String::len).sum::<usize>();
        if declared.key_bytes > KEYS_BYTES_MAX {
            return Err(AbiError::trap("setup.field", AbiCause::KeysTooLong { limit: KEYS_BYTES_MAX }));
        }
        declared.fields.push(path);
        Ok((u32::try_from(declared.fields.len() - 1).unwrap_or(u32::MAX),))
    })?;
    linker.func_wrap("output", |mut store: Store<'_>, (name,): (String,)| {
        let guest = configuring(&mut store, "setup.output")?;
        let found = guest.outputs.iter().position(|output| *output == name);
        let answer = match found.and_then(|index| u32::try_from(index).ok()) {
            Some(index) => {
                if guest.declared.outputs.len() >= FIELDS_MAX {
                    return Err(AbiError::trap("setup.output", AbiCause::Text("too many outputs declared")));
                }
                guest.declared.outputs.push(index);
                Ok(index)
            }
            None => Err(format!(
                "no output is named `{name}`; the stream has {}",
                guest.outputs.iter().map(|output| format!("`{output}`")).collect::<Vec<_>>().join(", ")
            )),
        };
        Ok((answer,))
    })?;
    linker.func_wrap("secret", |mut store: Store<'_>, (name,): (String,)| {
        let guest = configuring(&mut store, "setup.secret")?;
        let answer = guest.grants.secrets.get(&name).cloned();
        Ok((answer.ok_or_else(|| format!("no secret `{name}` is granted")),))
    })?;
    linker.func_wrap("file", |mut store: Store<'_>, (name, offset, len): (String, u64, u32)| {
        let guest = configuring(&mut store, "setup.file")?;
        let answer = match guest.grants.files.get(&name) {
            Some(file) => Ok(range(&file.bytes, offset, len)),
            None => Err(format!("no file `{name}` is granted")),
        };
        Ok((answer,))
    })
}

/// The bytes from `offset` on, at most `len` and at most what one call may hand over; empty past the end.
fn range(bytes: &[u8], offset: u64, len: u32) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let rest = bytes.get(start..).unwrap_or_default();
    let len = (len.min(FILE_READ_BYTES_MAX) as usize).min(rest.len());
    rest.get(..len).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn range_any_offset_and_length_stays_inside_the_file() {
        let file = b"0123456789";
        assert_eq!(range(file, 0, 4), b"0123");
        assert_eq!(range(file, 8, 100), b"89");
        assert_eq!(range(file, 10, 1), b"");
        assert_eq!(range(file, u64::MAX, u32::MAX), b"");
    }
}
