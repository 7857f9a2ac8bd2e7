//! The interface `http`: requests of a guest that has the network, as far as it is granted.

use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use super::{AbiCause, AbiError};
use crate::http::{self, HttpRequest};
use crate::instance::Guest;
use crate::limits::HTTP_PER_CALL_MAX;

pub(super) const FUNCTIONS: &[&str] = &["send"];

pub(super) fn add_to_linker(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.func_wrap("send", |mut store: StoreContextMut<'_, Guest>, (requests,): (Vec<HttpRequest>,)| {
        if http::too_many(requests.len()) {
            let cause = AbiCause::TooManyRequests { requests: requests.len(), limit: HTTP_PER_CALL_MAX };
            return Err(AbiError::trap("http.send", cause));
        }
        Ok((store.data_mut().send_http(requests),))
    })
}
