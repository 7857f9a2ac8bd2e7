//! Request bodies in memory: bounded over all tenants, and so that nobody's slow senders hold up another tenant.
//!
//! A body waits for room within its tenant's own share, by what it announces. Of the host's memory it takes what has
//! come, as it comes. When that is used up, bodies of the tenant that has most of it give way: they are refused, and the
//! client told to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, watch};

use super::error::ApiError;
use crate::pipeline::{TenantQuota, Turn};

/// How soon one that waits for others to give way looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Memory that a body is given at once for what it announces; what is longer grows.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// See the head of this file.
pub(super) struct Bodies {
    max: u64,
    state: Mutex<State>,
    released: Notify,
}

#[derive(Default)]
struct State {
    held: u64,
    tenants: HashMap<String, Holder>,
}

struct Holder {
    held: u64,
    bodies: usize,
    /// Grows when its bodies are to give way.
    way: watch::Sender<u64>,
}

/// Room for one body, for as long as it lives.
pub(super) struct Held {
    bodies: Arc<Bodies>,
    quota: Arc<TenantQuota>,
    bytes: u64,
    way: watch::Receiver<u64>,
    _share: Option<Turn>,
}

impl Bodies {
    pub(super) fn new(max: u64) -> Arc<Bodies> {
        Arc::new(Bodies { max, state: Mutex::default(), released: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, quota: &Arc<TenantQuota>, share: Option<Turn>) -> Held {
        let mut state = self.state();
        let holder = state.tenants.entry(quota.tenant().to_owned());
        let holder = holder.or_insert_with(|| Holder { held: 0, bodies: 0, way: watch::Sender::new(0) });
        holder.bodies += 1;
        let way = holder.way.subscribe();
        Held { bodies: Arc::clone(self), quota: Arc::clone(quota), bytes: 0, way, _share: share }
    }

    /// Reads a body of records of at most `max` bytes, and holds as many more when it `grows` as it is opened.
    pub(super) async fn read(
        self: &Arc<Self>,
        quota: &Arc<TenantQuota>,
        body: Body,
        max: u64,
        grows: bool,
        wait: Duration,
    ) -> Result<(Bytes, Held), ApiError> {
        let own = quota.body_max(max);
        let too_large = |asked: u64| {
            let refusal = if own < max { quota.body_too_large(asked) } else { None };
            refusal.map_or(ApiError::BodyTooLarge { limit: max }, ApiError::Quota)
        };
        let announced = body.size_hint().exact();
        if let Some(bytes) = announced.filter(|bytes| *bytes > own) {
            return Err(too_large(bytes));
        }
        let share = quota.body_room(announced.filter(|_| !grows).unwrap_or(own)).await;
        let mut held = self.begin(quota, Some(share));
        let body = held.read(body, own, wait).await?.ok_or_else(|| too_large(own + 1))?;
        if grows {
            held.grow(own, wait).await?;
        }
        Ok((body, held))
    }

    /// Reads a body of something else, of at most `max` bytes.
    pub(super) async fn read_other(
        self: &Arc<Self>,
        quota: &Arc<TenantQuota>,
        body: Body,
        max: u64,
        wait: Duration,
    ) -> Result<(Bytes, Held), ApiError> {
        let too_large = || ApiError::BodyTooLarge { limit: max };
        if body.size_hint().exact().is_some_and(|bytes| bytes > max) {
            return Err(too_large());
        }
        let mut held = self.begin(quota, None);
        let body = held.read(body, max, wait).await?.ok_or_else(too_large)?;
        Ok((body, held))
    }
}

impl Held {
    /// `None`: it has more bytes.
    async fn read(&mut self, mut body: Body, max: u64, wait: Duration) -> Result<Option<Bytes>, ApiError> {
        let mut whole = BytesMut::new();
        loop {
            let next = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
            let frame = tokio::select! {
                frame = tokio::time::timeout(wait, next) => frame,
                Ok(()) = self.way.changed() => return Err(ApiError::Quota(self.quota.body_gives_way())),
            };
            let Some(frame) = frame.map_err(|_| ApiError::SlowBody { wait })? else { break };
            let frame = frame.map_err(|_| ApiError::BrokenBody)?;
            let Ok(piece) = frame.into_data() else { continue };
            let bytes = (whole.len() + piece.len()) as u64;
            if bytes > max {
                return Ok(None);
            }
            self.grow(piece.len() as u64, wait).await?;
            if whole.is_empty() {
                if body.is_end_stream() {
                    return Ok(Some(piece));
                }
                // So that a body is copied once, and not again whenever it grows.
                let rest = body.size_hint().upper().unwrap_or(0).min(max) as usize;
                whole.reserve((piece.len() + rest).min(RESERVED_BYTES_MAX));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole.freeze()))
    }

    /// Takes room for more, for which others who have more must give way.
    async fn grow(&mut self, more: u64, wait: Duration) -> Result<(), ApiError> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            {
                let mut state = self.bodies.state();
                let State { held, tenants } = &mut *state;
                let own = tenants.get(self.quota.tenant()).map_or(0, |holder| holder.held);
                if held.saturating_add(more) <= self.bodies.max {
                    *held += more;
                    self.bytes += more;
                    if let Some(holder) = tenants.get_mut(self.quota.tenant()) {
                        holder.held += more;
                    }
                    return Ok(());
                }
                let most = tenants.values().max_by_key(|holder| holder.held);
                match most {
                    Some(most) if most.held > own.saturating_add(more) => {
                        most.way.send_modify(|times| *times += 1);
                    }
                    _ => return Err(ApiError::Quota(self.quota.body_gives_way())),
                }
            }
            let look = tokio::time::Instant::now() + LOOK_AGAIN;
            if look > until {
                return Err(ApiError::Quota(self.quota.body_gives_way()));
            }
            tokio::select! {
                () = self.bodies.released.notified() => {}
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.bodies.state();
        state.held -= self.bytes;
        let tenant = self.quota.tenant();
        if let Some(holder) = state.tenants.get_mut(tenant) {
            holder.held -= self.bytes;
            holder.bodies -= 1;
            if holder.bodies == 0 {
                state.tenants.remove(tenant);
            }
        }
        drop(state);
        self.bodies.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use wasmill_tenant::Quota;

    use super::*;
    use crate::pipeline::{Past, Quotas};

    const WAIT: Duration = Duration::from_secs(20);

    /// A body of which so many bytes have come, and the rest never does.
    fn slow(bytes: usize) -> Body {
        use futures::StreamExt;
        let first = futures::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; bytes])]);
        Body::from_stream(first.chain(futures::stream::pending()))
    }

    fn gave_way(result: &Result<(Bytes, Held), ApiError>) -> bool {
        matches!(result, Err(ApiError::Quota(refusal))
            if refusal.quota == Quota::BodyBytes && matches!(refusal.why, Past::Now { .. }))
    }

    #[tokio::test]
    async fn slow_senders_of_one_tenant_give_way_to_another() {
        let (bodies, quotas) = (Bodies::new(1000), Quotas::default());
        let (slow_one, other) = (quotas.of("slow"), quotas.of("other"));
        let mut sending: Vec<_> = (0..10)
            .map(|_| {
                let (bodies, quota) = (Arc::clone(&bodies), Arc::clone(&slow_one));
                tokio::spawn(async move { bodies.read(&quota, slow(100), 100, false, WAIT).await })
            })
            .collect();
        while bodies.state().held < 1000 {
            tokio::task::yield_now().await;
        }
        let (body, held) = bodies.read(&other, Body::from(vec![1; 300]), 300, false, WAIT).await.unwrap();
        assert_eq!((body.len(), bodies.state().held), (300, 300));
        for sending in sending.drain(..) {
            assert!(gave_way(&sending.await.unwrap()));
        }
        drop(held);
        assert!(bodies.state().tenants.is_empty());
    }

    #[tokio::test]
    async fn tenant_that_has_most_is_refused_itself() {
        let (bodies, quotas) = (Bodies::new(1000), Quotas::default());
        let (one, other) = (quotas.of("one"), quotas.of("other"));
        let _held = bodies.read(&one, Body::from(vec![1; 900]), 900, false, WAIT).await.unwrap();
        // The other one has less, and would have more.
        let large = bodies.read(&other, Body::from(vec![1; 950]), 950, false, WAIT).await;
        assert!(gave_way(&large));
        let more = bodies.read(&one, Body::from(vec![1; 200]), 200, false, WAIT).await;
        assert!(gave_way(&more));
        assert_eq!(bodies.state().held, 900);
    }

    #[tokio::test]
    async fn body_that_grows_holds_room_for_what_it_becomes() {
        let (bodies, quotas) = (Bodies::new(1000), Quotas::default());
        let one = quotas.of("one");
        let (_, held) = bodies.read(&one, Body::from(vec![1; 100]), 500, true, WAIT).await.unwrap();
        assert_eq!(bodies.state().held, 600);
        drop(held);
        assert_eq!(bodies.state().held, 0);
        let larger = bodies.read(&one, Body::from(vec![1; 501]), 500, true, WAIT).await;
        assert!(matches!(larger, Err(ApiError::BodyTooLarge { limit: 500 })));
    }
}
