//! Version 1 of the ABI of Data Transforms, from the guest's side: batches, records as bytes, and records written back.

/// A record as it is read or written: all of it in one buffer, which these borrow from.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// What a record has besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metadata {
    pub attributes: u8,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub offset: i64,
    /// Its place in the batch.
    pub index: i32,
    pub batch: Batch,
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch {
    pub base_offset: i64,
    pub record_count: i32,
    pub leader_epoch: i32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

mod host {
    #[link(wasm_import_module = "redpanda_transform")]
    unsafe extern "C" {
        pub fn check_abi_version_1();
        pub fn read_batch_header(
            base_offset: *mut i64,
            record_count: *mut i32,
            leader_epoch: *mut i32,
            attributes: *mut i16,
            last_offset_delta: *mut i32,
            base_timestamp: *mut i64,
            max_timestamp: *mut i64,
            producer_id: *mut i64,
            producer_epoch: *mut i16,
            base_sequence: *mut i32,
        ) -> i32;
        pub fn read_next_record(
            attributes: *mut u8,
            timestamp: *mut i64,
            offset: *mut i64,
            buffer: *mut u8,
            len: u32,
        ) -> i32;
        pub fn write_record(buffer: *const u8, len: u32) -> i32;
    }
}

/// Hands every record to `each`, for ever.
pub fn run(mut each: impl FnMut(&Record<'_>, &Metadata)) -> ! {
    unsafe { host::check_abi_version_1() };
    let mut buffer = Vec::new();
    loop {
        let mut batch = Batch::default();
        let largest = unsafe {
            host::read_batch_header(
                &mut batch.base_offset,
                &mut batch.record_count,
                &mut batch.leader_epoch,
                &mut batch.attributes,
                &mut batch.last_offset_delta,
                &mut batch.base_timestamp,
                &mut batch.max_timestamp,
                &mut batch.producer_id,
                &mut batch.producer_epoch,
                &mut batch.base_sequence,
            )
        };
        buffer.resize(usize::try_from(largest).expect("a batch"), 0);
        for index in 0..batch.record_count {
            let mut metadata = Metadata { index, batch, ..Metadata::default() };
            let read = unsafe {
                host::read_next_record(
                    &mut metadata.attributes,
                    &mut metadata.timestamp,
                    &mut metadata.offset,
                    buffer.as_mut_ptr(),
                    buffer.len() as u32,
                )
            };
            let len = usize::try_from(read).expect("a record");
            let record = decode(&buffer[..len]).expect("a record that can be read");
            each(&record, &metadata);
        }
    }
}

/// Writes a record, of the one that was read last.
pub fn write(record: &Record<'_>) {
    let bytes = encode(record);
    let written = unsafe { host::write_record(bytes.as_ptr(), bytes.len() as u32) };
    assert_eq!(written, bytes.len() as i32, "write_record");
}

fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let mut rest = bytes;
    let (key, value) = (sized(&mut rest)?, sized(&mut rest)?);
    let mut headers = Vec::new();
    for _ in 0..varint(&mut rest)? {
        headers.push((sized(&mut rest)?.unwrap_or_default(), sized(&mut rest)?));
    }
    rest.is_empty().then_some(Record { key, value, headers })
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_sized(&mut out, record.key);
    put_sized(&mut out, record.value);
    put_varint(&mut out, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_sized(&mut out, Some(name));
        put_sized(&mut out, *value);
    }
    out
}

fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

fn sized<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint(rest)?;
    if len < 0 {
        return Some(None);
    }
    let (value, after) = rest.split_at_checked(len as usize)?;
    *rest = after;
    Some(Some(value))
}

fn put_varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_sized(out: &mut Vec<u8>, value: Option<&[u8]>) {
    put_varint(out, value.map_or(-1, |value| value.len() as i64));
    out.extend_from_slice(value.unwrap_or_default());
}
