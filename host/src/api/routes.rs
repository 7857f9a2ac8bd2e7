//! Every route, with what it wants of its caller: the one list from which the router, the gate before each handler and
//! the OpenAPI document are made. A route that is not here is not there.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::handler::Handler;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use wasmill_tenant::Scope;

use super::access::{Caller, RouteHead, Wants};
use super::{
    Host, Shared, audit, dead_letters, decide, delivered, firehose, keys, push, quotas, replays, samples,
    state, streams, tenants, usage, versions,
};

/// A route and what answers it.
pub(super) struct Route<H> {
    pub(super) head: RouteHead,
    pub(super) handler: MethodRouter<Arc<Shared<H>>>,
}

struct Routes<H>(Vec<Route<H>>);

impl<H: Host> Routes<H> {
    fn add<F, T>(&mut self, filter: MethodFilter, head: RouteHead, handler: F)
    where
        F: Handler<T, Arc<Shared<H>>>,
        T: 'static,
    {
        self.0.push(Route { head, handler: on(filter, handler) });
    }

    fn get<T: 'static>(
        &mut self,
        path: &'static str,
        wants: Wants,
        handler: impl Handler<T, Arc<Shared<H>>>,
    ) {
        self.add(MethodFilter::GET, RouteHead { method: "GET", path, wants }, handler);
    }

    fn post<T: 'static>(
        &mut self,
        path: &'static str,
        wants: Wants,
        handler: impl Handler<T, Arc<Shared<H>>>,
    ) {
        self.add(MethodFilter::POST, RouteHead { method: "POST", path, wants }, handler);
    }

    fn put<T: 'static>(
        &mut self,
        path: &'static str,
        wants: Wants,
        handler: impl Handler<T, Arc<Shared<H>>>,
    ) {
        self.add(MethodFilter::PUT, RouteHead { method: "PUT", path, wants }, handler);
    }

    fn delete<T: 'static>(
        &mut self,
        path: &'static str,
        wants: Wants,
        handler: impl Handler<T, Arc<Shared<H>>>,
    ) {
        self.add(MethodFilter::DELETE, RouteHead { method: "DELETE", path, wants }, handler);
    }
}

/// All of them.
pub(super) fn routes<H: Host>() -> Vec<Route<H>> {
    const PUSH: Wants = Wants::Scope(Scope::Push);
    const READ: Wants = Wants::Scope(Scope::Read);
    const PLUGINS: Wants = Wants::Scope(Scope::Plugins);
    const ADMIN: Wants = Wants::Scope(Scope::Admin);
    const OPERATOR: Wants = Wants::Scope(Scope::Operator);
    let mut routes = Routes(Vec::new());

    let records = "/v1/streams/{name}/records";
    routes.post(records, PUSH, push::push::<H>);
    routes.post("/v1/streams/{name}/decide", PUSH, decide::decide::<H>);
    routes.post(delivered::PATH, PUSH, delivered::deliver::<H>);
    routes.get("/v1/streams", READ, list_streams::<H>);
    routes.get("/v1/streams/{name}", READ, streams::get::<H>);
    routes.put("/v1/streams/{name}", ADMIN, streams::put::<H>);
    routes.delete("/v1/streams/{name}", ADMIN, streams::delete::<H>);
    routes.get("/v1/streams/{name}/versions", ADMIN, streams::versions::<H>);
    routes.get("/v1/streams/{name}/sample", READ, samples::sample::<H>);

    let letters = "/v1/streams/{name}/dead-letters";
    routes.get(letters, READ, dead_letters::list::<H>);
    routes.delete(letters, ADMIN, dead_letters::remove::<H>);
    routes.post("/v1/streams/{name}/dead-letters/replay", ADMIN, dead_letters::replay::<H>);
    let letter = "/v1/streams/{name}/dead-letters/{number}";
    routes.get(letter, READ, dead_letters::get::<H>);
    routes.delete(letter, ADMIN, dead_letters::remove_one::<H>);

    routes.get("/v1/streams/{name}/state", READ, state::tables::<H>);
    routes.delete("/v1/streams/{name}/state", ADMIN, state::drop_all::<H>);
    let table = "/v1/streams/{name}/state/{transform}/{table}";
    routes.get(table, READ, state::entries::<H>);
    routes.delete(table, ADMIN, state::drop_table::<H>);

    routes.get("/v1/streams/{name}/replays", READ, replays::list::<H>);
    routes.post("/v1/streams/{name}/replays", ADMIN, replays::start::<H>);
    routes.get("/v1/streams/{name}/replays/{id}", READ, replays::get::<H>);
    routes.delete("/v1/streams/{name}/replays/{id}", ADMIN, replays::cancel::<H>);

    routes.get("/v1/plugins", READ, plugins::<H>);
    routes.post("/v1/plugins", PLUGINS, versions::upload::<H>);
    routes.delete("/v1/plugins/{name}/versions/{digest}", PLUGINS, versions::remove::<H>);
    routes.get("/v1/plugins/{name}", READ, versions::show::<H>);
    routes.post("/v1/plugins/{name}/pin", PLUGINS, versions::pin::<H>);
    routes.delete("/v1/plugins/{name}/pin", PLUGINS, versions::unpin::<H>);
    routes.post("/v1/plugins/{name}/rollback", PLUGINS, versions::rollback::<H>);
    routes.post("/v1/plugins/{name}/promote", PLUGINS, versions::promote::<H>);
    routes.post("/v1/plugins/{name}/shadow", PLUGINS, versions::shadow::<H>);
    routes.get("/v1/plugins/{name}/shadow", READ, versions::report::<H>);
    routes.delete("/v1/plugins/{name}/shadow", PLUGINS, versions::stop_shadow::<H>);

    routes.get("/v1/whoami", Wants::Key, keys::whoami);
    routes.get("/v1/keys", ADMIN, keys::list::<H>);
    routes.post("/v1/keys", ADMIN, keys::create::<H>);
    routes.get("/v1/keys/{id}", ADMIN, keys::get::<H>);
    routes.delete("/v1/keys/{id}", ADMIN, keys::revoke::<H>);
    routes.post("/v1/keys/{id}/rotate", ADMIN, keys::rotate::<H>);
    routes.get("/v1/audit", ADMIN, audit::list::<H>);

    routes.get("/v1/quotas", READ, quotas::own::<H>);
    routes.get("/v1/usage", READ, usage::usage::<H>);
    routes.get("/v1/tenants", OPERATOR, tenants::list::<H>);
    routes.post("/v1/tenants", OPERATOR, tenants::create::<H>);
    routes.get("/v1/tenants/{name}", OPERATOR, tenants::get::<H>);
    routes.delete("/v1/tenants/{name}", OPERATOR, tenants::delete::<H>);
    routes.get("/v1/tenants/{name}/quotas", OPERATOR, quotas::get::<H>);
    routes.put("/v1/tenants/{name}/quotas", OPERATOR, quotas::set::<H>);
    routes.post("/v1/tenants/{name}/disable", OPERATOR, tenants::disable::<H>);
    routes.post("/v1/tenants/{name}/enable", OPERATOR, tenants::enable::<H>);

    routes.post("/", Wants::Signature, firehose::answer::<H>);
    routes.get("/v1/config", OPERATOR, file::<H>);
    routes.get("/metrics", Wants::Metrics, metrics::<H>);
    routes.get("/healthz", Wants::Nothing, async || "ok\n");
    routes.get("/v1/openapi.json", Wants::Nothing, document::<H>);
    routes.get("/readyz", Wants::Nothing, ready::<H>);
    routes.0
}

async fn list_streams<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    axum::Json(shared.host.streams(&caller.tenant)).into_response()
}

async fn plugins<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    axum::Json(shared.host.plugins(&caller.tenant)).into_response()
}

async fn file<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    axum::Json(shared.host.file()).into_response()
}

async fn metrics<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.host.metrics()).into_response()
}

async fn document<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.document.clone()).into_response()
}

async fn ready<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    match shared.host.ready().await {
        Ok(()) => "ready\n".into_response(),
        // Names of streams, and what is wrong with them, are not for everybody.
        Err(_why) if shared.access.keys => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
        Err(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")).into_response(),
    }
}
