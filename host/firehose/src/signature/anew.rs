//! The signature that a request should have, by the signer of AWS's SDK.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;

use super::digits::Signature;
use super::presented::Request;

/// What the signer puts in by itself: the date of a header, and in a query everything that says what a signature is.
const DATE: &str = "x-amz-date";
const OF_QUERY: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];
/// Only the path and the query of a request count; one that has no host has another signature than any with one.
const NOWHERE: &str = "https://nowhere.invalid";

/// By what a request was signed, beside itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) access_key: &'a str,
    pub(super) secret: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// Seconds since the epoch.
    pub(super) at: u64,
}

impl Scope<'_> {
    fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.at)
    }

    /// What signs chunks.
    pub(super) fn key(&self) -> impl AsRef<[u8]> + use<> {
        v4::generate_signing_key(self.secret, self.time(), self.region, self.service)
    }

    /// Of a request with these headers, in the query for so many seconds or in a header. `None`: no client signs such a one.
    pub(super) fn signature(
        &self,
        request: &Request<'_>,
        signed_headers: &[String],
        payload_hash: String,
        expires: Option<u64>,
    ) -> Option<Signature> {
        let mut settings = SigningSettings::default();
        settings.excluded_headers = None;
        let mut uri = format!("{NOWHERE}{}", request.path);
        if let Some(query) = request.query {
            uri.push('?');
            match expires {
                None => uri.push_str(query),
                Some(_) => uri.push_str(&without(query, OF_QUERY)),
            }
        }
        if let Some(seconds) = expires {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(Duration::from_secs(seconds));
        }
        let mut headers = Vec::with_capacity(signed_headers.len());
        for (name, value) in &request.headers {
            let is_signed = signed_headers.iter().any(|signed| name.eq_ignore_ascii_case(signed));
            if is_signed && !(expires.is_none() && name.eq_ignore_ascii_case(DATE)) {
                headers.push((*name, std::str::from_utf8(value).ok()?));
            }
        }
        let body = SignableBody::Precomputed(payload_hash);
        let signable = SignableRequest::new(request.method, uri, headers.into_iter(), body).ok()?;
        let identity: Identity =
            Credentials::new(self.access_key, self.secret, None, None, "presented").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.time())
            .settings(settings)
            .build()
            .ok()?;
        let (_instructions, signature) = sign(signable, &params.into()).ok()?.into_parts();
        Signature::parse(&signature)
    }
}

/// A query as it came, but for parameters of these names.
fn without(query: &str, names: &[&str]) -> String {
    let is_other = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        !names.contains(&name)
    };
    query.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}
