//! From raw keys to settings of who may use the HTTP listener, and how it is reached.
//!
//! It owns what relates these keys to one another. It looks whether files are there; it refuses to read them: what is in
//! them may change while the host runs.

use std::path::PathBuf;

use crate::names;
use crate::raw;
use crate::resolve::Resolver;
use crate::secret::masked_url;
use crate::settings::{Auth, Jwks, Jwt, Tls, TlsClient};

fn is_on_this_machine(url: &str) -> bool {
    let rest = url.strip_prefix("http://").unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| {
        rest.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
            && !rest.contains('@')
    })
}

impl Resolver<'_> {
    pub(crate) fn auth(&mut self, auth: &raw::Auth) -> Auth {
        Auth {
            keys: matches!(auth.mode, raw::AuthMode::Keys),
            metrics_open: matches!(auth.metrics, raw::MetricsAccess::Open),
            jwt: auth.jwt.as_ref().map(|jwt| self.jwt(jwt, auth)),
        }
    }

    fn jwt(&mut self, jwt: &raw::Jwt, auth: &raw::Auth) -> Jwt {
        if !matches!(auth.mode, raw::AuthMode::Keys) && self.sound("http.auth.mode") {
            self.problem(
                "http.auth.jwt",
                "tokens say who may do what, and without \"mode\" = \"keys\" everybody may do everything",
            );
        }
        for (name, text) in [
            ("issuer", &jwt.issuer),
            ("audience", &jwt.audience),
            ("tenant_claim", &jwt.tenant_claim),
            ("scope_claim", &jwt.scope_claim),
        ] {
            if text.is_empty() {
                self.problem(&format!("http.auth.jwt.{name}"), format!("\"{name}\" is empty"));
            }
        }
        let jwks = if jwt.jwks.contains("://") {
            if !jwt.jwks.starts_with("https://") && !is_on_this_machine(&jwt.jwks) {
                let shown = masked_url(&jwt.jwks);
                let message = format!(
                    "{shown}: whoever is on the way could put keys of his own in, expected a file or https://"
                );
                self.problem("http.auth.jwt.jwks", message);
            }
            Jwks::Url(jwt.jwks.clone())
        } else {
            Jwks::File(self.existing("http.auth.jwt.jwks", &jwt.jwks))
        };
        Jwt {
            jwks,
            issuer: jwt.issuer.clone(),
            audience: jwt.audience.clone(),
            tenant_claim: jwt.tenant_claim.clone(),
            scope_claim: jwt.scope_claim.clone(),
        }
    }

    pub(crate) fn tls(&mut self, tls: &raw::Tls, http: &raw::Http) -> Tls {
        let certificate = self.existing("http.tls.certificate", &tls.certificate);
        let key = self.existing("http.tls.key", &tls.key);
        let client_ca = tls.client_ca.as_ref().map(|written| self.existing("http.tls.client_ca", written));
        if !tls.clients.is_empty() {
            if client_ca.is_none() {
                let message =
                    "\"clients\" say whose certificates are, and without \"client_ca\" none is asked for";
                self.problem("http.tls.clients", message);
            } else if !matches!(http.auth.mode, raw::AuthMode::Keys) && self.sound("http.auth.mode") {
                let message = "\"clients\" say who may do what, and without \"mode\" = \"keys\" in [http.auth] everybody may do \
                     everything";
                self.problem("http.tls.clients", message);
            }
        }
        let clients = tls.clients.iter().enumerate();
        let clients = clients.filter_map(|(index, client)| Some((index, client.as_ref()?)));
        let clients =
            clients.map(|(index, client)| self.client(&format!("http.tls.clients[{index}]"), client));
        Tls { certificate, key, client_ca, clients: clients.collect() }
    }

    fn existing(&mut self, key: &str, written: &str) -> PathBuf {
        let path = self.path(key, written);
        if !written.is_empty() && !path.is_file() {
            self.problem(key, format!("{} is no file", path.display()));
        }
        path
    }

    fn client(&mut self, key: &str, client: &raw::TlsClient) -> TlsClient {
        match (&client.uri, &client.name) {
            (Some(_), Some(_)) => self.problem(key, "expected either \"uri\" or \"name\", found both"),
            (None, None) => {
                self.problem(key, "expected \"uri\" or \"name\" of the certificate, found neither")
            }
            (Some(text), None) | (None, Some(text)) if text.is_empty() => {
                self.problem(key, "an empty \"uri\" or \"name\" is of no certificate");
            }
            _ => {}
        }
        self.name(&format!("{key}.tenant"), "tenant", &client.tenant);
        if client.scopes.is_empty() && self.sound(&format!("{key}.scopes")) {
            self.problem(&format!("{key}.scopes"), "a client without a scope could do nothing");
        }
        let operator = client.scopes.iter().any(|scope| matches!(scope, raw::ClientScope::Operator));
        if operator && client.tenant != "default" && names::is_name(&client.tenant) {
            self.problem(&format!("{key}.scopes"), "operators belong to the tenant \"default\"");
        }
        let scopes = client.scopes.iter().map(|scope| match scope {
            raw::ClientScope::Push => "push",
            raw::ClientScope::Read => "read",
            raw::ClientScope::Plugins => "plugins",
            raw::ClientScope::Admin => "admin",
            raw::ClientScope::Operator => "operator",
        });
        TlsClient {
            uri: client.uri.clone(),
            name: client.name.clone(),
            tenant: client.tenant.clone(),
            scopes: scopes.collect(),
        }
    }
}
