//! The interface `event-clock`: what the host knows of event time, in the hands of a guest.

use wasmill_chunk::{IntsRef, RowsId, state};
use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource};

use super::{AbiCause, AbiError, Rows};
use crate::event_time::NO_TIME;
use crate::instance::Guest;

type Store<'a> = StoreContextMut<'a, Guest>;

pub(super) const FUNCTIONS: &[&str] = &["tracked", "times", "watermarks", "more"];

/// Why a call is out of place.
const NONE: AbiCause =
    AbiCause::Text("the stream has no event time, or this is not inside process or on-watermark");

pub(super) fn add_to_linker(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.func_wrap("tracked", |store: Store<'_>, ()| Ok((store.data().grants.event_time,)))?;
    linker.func_wrap("times", |mut store: Store<'_>, (rows,): (Resource<Rows>,)| {
        let times =
            of_rows(store.data_mut(), &rows, "event-clock.times", |clock, record| clock.time(record))?;
        let states: Vec<u8> =
            times.iter().map(|time| if *time == NO_TIME { state::MISSING } else { state::VALUE }).collect();
        let values: Vec<i64> = times.into_iter().map(|time| if time == NO_TIME { 0 } else { time }).collect();
        Ok((store.data_mut().out.ints(IntsRef { state: &states, values: &values }),))
    })?;
    linker.func_wrap("watermarks", |mut store: Store<'_>, (rows,): (Resource<Rows>,)| {
        let function = "event-clock.watermarks";
        let watermarks = of_rows(store.data_mut(), &rows, function, |clock, record| clock.watermark(record))?;
        Ok((store.data_mut().out.int_list(&watermarks),))
    })?;
    linker.func_wrap("more", |mut store: Store<'_>, ()| {
        let clock = store.data_mut().clock.as_deref_mut().filter(|clock| clock.is_on_watermark);
        let Some(clock) = clock else {
            let cause = AbiCause::Text("may be called inside on-watermark only");
            return Err(AbiError::trap("event-clock.more", cause));
        };
        clock.more = true;
        Ok(())
    })
}

/// Something of the record behind each row.
fn of_rows(
    guest: &mut Guest,
    rows: &Resource<Rows>,
    function: &'static str,
    of: impl Fn(&crate::event_time::CallClock, u32) -> i64,
) -> wasmtime::Result<Vec<i64>> {
    let (Some(clock), Some(chunk)) = (guest.clock.as_deref(), guest.chunk.as_deref()) else {
        return Err(AbiError::trap(function, NONE));
    };
    let records = chunk.records(RowsId(rows.rep()));
    let records = records.map_err(|misuse| AbiError::trap(function, AbiCause::Misuse(misuse)))?;
    Ok(records.into_iter().map(|record| of(clock, record)).collect())
}
