//! Which entry of state each record of a call has.

use std::collections::HashMap;

use crate::state::Address;

/// The addresses of some records, each once, in the order in which they come.
#[derive(Debug, Default)]
pub struct Places {
    pub addresses: Vec<Address>,
    /// By record: the place of its address among these.
    pub of_records: Vec<usize>,
}

impl Places {
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Address>) -> Places {
        let mut places = Places::default();
        let mut known: HashMap<&Address, usize> = HashMap::new();
        for address in records {
            let place = *known.entry(address).or_insert_with(|| {
                places.addresses.push(address.clone());
                places.addresses.len() - 1
            });
            places.of_records.push(place);
        }
        places
    }
}
