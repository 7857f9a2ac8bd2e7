//! The OpenAPI document: what `routes` has, with what `operations` says of each, as `GET /v1/openapi.json` and in
//! `docs/openapi.json`.
//!
//! Paths, methods and scopes come from the routes themselves. A route of which nothing is said here, and something said of
//! a route that is not there, fail a test.

mod of_tenants;
mod operations;
mod shapes;

use std::collections::BTreeMap;

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem,
    PathsBuilder, Ref, Required, ResponseBuilder,
};

use self::operations::{Body, OPERATIONS, Said};
use self::shapes::{Shape, shape};
use super::access::{RouteHead, Wants};

/// Name of the one way to say who one is.
const KEY: &str = "key";
/// Of the other one, for the Firehose API.
const SIGNATURE: &str = "signature";

/// Refusals that every route with a gate has.
const GATED: [(u16, &str); 6] = [
    (400, "header_twice"),
    (401, "unauthorized"),
    (403, "forbidden"),
    (404, "no_tenant"),
    (429, "too_many_failures"),
    (503, "keys_wait"),
];

/// What is said of all of them.
fn said_of_all() -> impl Iterator<Item = &'static Said> {
    OPERATIONS.iter().copied().flatten().chain(of_tenants::OPERATIONS)
}

/// The document, pretty-printed.
pub(super) fn document(heads: &[RouteHead]) -> String {
    let mut text = serde_json::to_string_pretty(&open_api(heads)).unwrap_or_default();
    text.push('\n');
    text
}

fn open_api(heads: &[RouteHead]) -> OpenApi {
    let mut paths = PathsBuilder::new();
    for head in heads {
        let said = said_of_all().find(|said| (said.method, said.path) == (head.method, head.path));
        let Some(said) = said else { continue };
        let method = match head.method {
            "POST" => HttpMethod::Post,
            "PUT" => HttpMethod::Put,
            "DELETE" => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        paths = paths.path(head.path, PathItem::new(method, operation(head, said)));
    }
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("wm_<id>_<secret>")
        .description(Some(
            "Needed where [http.auth] mode is \"keys\". The roles of a requirement are the scopes that a key must have: \
             admin has push, read and plugins within it, operator has all.",
        ))
        .build();
    let signature = ApiKeyValue::with_description(
        "Authorization",
        "AWS Signature Version 4 over the whole request, for the service firehose in any region, with the pair of a key that \
         signs; needed where [http.auth] mode is \"keys\".",
    );
    let signature = SecurityScheme::ApiKey(ApiKey::Header(signature));
    let mut components = ComponentsBuilder::new()
        .security_scheme(KEY, SecurityScheme::Http(key))
        .security_scheme(SIGNATURE, signature);
    for (name, known) in shapes::NAMED {
        components = components.schema(*name, shape(known));
    }
    let tags = operations::TAGS
        .iter()
        .map(|(name, text)| TagBuilder::new().name(*name).description(Some(*text)).build());
    let info = InfoBuilder::new()
        .title("Wasmill")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The HTTP interface of a Wasmill host; docs/http.md and docs/access.md tell more. Programs read the code of a \
             refusal, people its message.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .paths(paths.build())
        .components(Some(components.build()))
        .tags(Some(tags))
        .build()
}

fn operation(head: &RouteHead, said: &Said) -> Operation {
    let mut operation =
        OperationBuilder::new().operation_id(Some(said.id)).tag(said.tag).summary(Some(said.summary));
    if !said.text.is_empty() {
        operation = operation.description(Some(said.text));
    }
    operation = match head.wants {
        // An empty list: nothing is needed.
        Wants::Nothing => operation.securities(Some(Vec::<SecurityRequirement>::new())),
        // One of both.
        Wants::Signature => operation
            .security(SecurityRequirement::new(SIGNATURE, Vec::<String>::new()))
            .security(SecurityRequirement::new(KEY, Vec::<String>::new())),
        Wants::Key => operation.security(SecurityRequirement::new(KEY, Vec::<String>::new())),
        Wants::Metrics => operation.security(SecurityRequirement::new(KEY, ["operator"])),
        Wants::Scope(scope) => operation.security(SecurityRequirement::new(KEY, [scope.as_str()])),
    };
    for step in head.path.split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}')) {
        let parameter = ParameterBuilder::new().name(step).parameter_in(ParameterIn::Path);
        let parameter = parameter.required(Required::True).schema(Some(shape(&Shape::Text)));
        operation = operation.parameter(parameter.build());
    }
    for (name, kind, text) in said.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query, kind, text));
    }
    for (name, text) in said.headers {
        operation = operation.parameter(parameter(name, ParameterIn::Header, &Shape::Text, text));
    }
    if head.wants != Wants::Nothing {
        let text =
            "Of an operator: the tenant that the request is about. Of others: their own tenant, or nothing.";
        operation = operation.parameter(parameter("Wasmill-Tenant", ParameterIn::Header, &Shape::Text, text));
    }
    if !said.bodies.is_empty() {
        let mut body = RequestBodyBuilder::new().required(Some(Required::True));
        for Body { kind, shape: of } in said.bodies {
            body = body.content(*kind, ContentBuilder::new().schema(Some(shape(of))).build());
        }
        operation = operation.request_body(Some(body.build()));
    }
    let (status, kind, of, text) = &said.answer;
    let answer = ContentBuilder::new().schema(Some(shape(of))).build();
    let answer = ResponseBuilder::new().description(*text).content(*kind, answer);
    operation = operation.response(status.to_string(), answer.build());
    for (status, codes) in refusals(head, said) {
        let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        let refusal = ResponseBuilder::new().description(codes.join(", "));
        let refusal = match said.plain_refusals {
            true => refusal,
            false => refusal.content(
                "application/json",
                ContentBuilder::new().schema(Some(Ref::from_schema_name("Refusal"))).build(),
            ),
        };
        operation = operation.response(status.to_string(), refusal.build());
    }
    operation.build()
}

fn parameter(name: &str, place: ParameterIn, kind: &Shape, text: &str) -> utoipa::openapi::path::Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(Required::False);
    parameter.description(Some(text)).schema(Some(shape(kind))).build()
}

/// Codes by status.
fn refusals(head: &RouteHead, said: &Said) -> BTreeMap<u16, Vec<&'static str>> {
    let mut found: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let gated = match head.wants {
        Wants::Nothing | Wants::Signature => &[][..],
        _ => &GATED[..],
    };
    let needs_json = said.bodies.iter().any(|body| body.kind == "application/json");
    let of_json: &[(u16, &str)] = match needs_json {
        true => &[(400, "bad_query"), (400, "broken_body"), (408, "slow_body"), (413, "body_too_large")],
        false => &[],
    };
    for (status, code) in gated.iter().chain(of_json).chain(said.refusals) {
        let codes = found.entry(*status).or_default();
        if !codes.contains(code) {
            codes.push(code);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::api::tests::heads;

    #[test]
    fn document_has_every_route_and_no_other() {
        let routes: BTreeSet<(&str, &str)> = heads().iter().map(|head| (head.method, head.path)).collect();
        let said: BTreeSet<(&str, &str)> = said_of_all().map(|said| (said.method, said.path)).collect();
        assert_eq!(routes, said, "routes, and what is said of them");
        assert_eq!(said.len(), said_of_all().count(), "something is said twice");
        let document: serde_json::Value = serde_json::from_str(&document(&heads())).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let written: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let routes = routes.into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
        assert_eq!(written, routes, "the document, and the routes");
        let ids: BTreeSet<&str> = said_of_all().map(|said| said.id).collect();
        assert_eq!(ids.len(), said_of_all().count(), "two operations have one id");
        for said in said_of_all() {
            assert!(operations::TAGS.iter().any(|(tag, _)| *tag == said.tag), "{}", said.tag);
        }
    }

    #[test]
    fn document_names_shapes_that_are_there() {
        let text = document(&heads());
        let named: BTreeSet<&str> =
            text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let known: BTreeSet<&str> = shapes::NAMED.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, known);
    }

    /// Codes that `error.rs` has.
    #[test]
    fn document_names_every_code() {
        let text = document(&heads());
        let codes = include_str!("../error.rs").split("StatusCode::").skip(1).filter_map(|rest| {
            rest.split_once(", \"").filter(|(name, _)| !name.contains([' ', ';']))?.1.split('"').next()
        });
        for code in codes.filter(|code| !["no_route", "method_not_allowed"].contains(code)) {
            assert!(text.contains(&format!("`{code}`")), "{code} is in no operation");
        }
    }

    #[test]
    fn document_is_the_checked_in_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = document(&heads());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == checked_in, "docs/openapi.json is stale; run again with BLESS=1");
    }
}
