//! What a request presents, and whether it is good.

use std::borrow::Cow;

use super::anew::Scope;
use super::chunked::{Chain, Chunks, decode};
use super::digits::{Signature, sha256};
use super::time::{Moment, SKEW_SECONDS};
use crate::wire::{Kind, Refusal, TARGET_HEADER};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "firehose";
const TERMINATOR: &str = "aws4_request";
const CONTENT_HASH: &str = "x-amz-content-sha256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Longest a request in the query's form may be good.
const EXPIRES_MAX: u32 = 7 * 24 * 3600;

/// A request as it came, but for its body.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// In upper case.
    pub method: &'a str,
    /// Still encoded.
    pub path: &'a str,
    /// Still encoded, without the question mark.
    pub query: Option<&'a str>,
    /// In their order; names in any case. With HTTP/2 the caller gives `:authority` as `host`.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

impl Request<'_> {
    pub(super) fn values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// The one value of a header that may not be repeated.
    fn single(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let Some((_, value)) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(incomplete(format!("The header '{name}' is there more than once.")));
        }
        let value =
            std::str::from_utf8(value).map_err(|_| incomplete(format!("The header '{name}' is no text.")))?;
        Ok(Some(value.trim()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// In the header `Authorization`.
    Header,
    /// In the query, good for so many seconds.
    Query { expires: u32 },
}

/// A signature that was read and not yet verified.
#[derive(Clone, Debug)]
pub struct Presented {
    form: Form,
    access_key: String,
    /// `yyyyMMdd`, of the scope and of the moment.
    date: String,
    region: String,
    moment: Moment,
    /// In lower case, sorted, each once.
    signed_headers: Vec<String>,
    signature: Signature,
    signature_text: String,
    security_token: Option<String>,
}

impl Presented {
    /// # Errors
    /// `MissingAuthenticationTokenException`: there is no signature. `IncompleteSignatureException`: a piece is missing or
    /// malformed. `InvalidSignatureException`: the scope is another, or a header is not signed that must be.
    pub fn parse(request: &Request<'_>) -> Result<Presented, Refusal> {
        let presented = match request.single("authorization")? {
            Some(authorization) => in_header(request, authorization)?,
            None => in_query(request)?,
        };
        let must_be_signed = [
            ("host", "Host", true),
            ("x-amz-date", "X-Amz-Date", presented.form == Form::Header),
            (TARGET_HEADER, "X-Amz-Target", request.values(TARGET_HEADER).next().is_some()),
        ];
        for (name, shown, must) in must_be_signed {
            if must && !presented.signed_headers.iter().any(|signed| signed == name) {
                let message = format!("'{shown}' must be a 'SignedHeader' in the AWS Authorization.");
                return Err(Refusal::new(Kind::InvalidSignature, message));
            }
        }
        Ok(presented)
    }

    /// Whose key it is said to be.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// That of temporary keys. What it is worth is up to the caller.
    pub fn security_token(&self) -> Option<&str> {
        self.security_token.as_deref()
    }

    /// The body that was signed with this secret: as it came, or without its framing where it came in chunks. `now` in seconds
    /// since the Unix epoch. The request must be the one that was parsed.
    ///
    /// # Errors
    /// `InvalidSignatureException`: it is too old or from the future, or request, body or secret differ from what was signed.
    /// `IncompleteSignatureException`: chunks are malformed.
    pub fn verify<'b>(
        &self,
        secret: &str,
        request: &Request<'_>,
        body: &'b [u8],
        now: i64,
    ) -> Result<Cow<'b, [u8]>, Refusal> {
        self.is_current(Moment(now))?;
        let given = request.single(CONTENT_HASH)?;
        let chunks = given.and_then(Chunks::of);
        let payload_hash = match given {
            Some(UNSIGNED) => UNSIGNED.to_owned(),
            Some(value) if chunks.is_some() => value.to_owned(),
            Some(value) => {
                let computed = sha256(body);
                if !value.eq_ignore_ascii_case(&computed) {
                    let message =
                        "The provided 'x-amz-content-sha256' header does not match what was computed.";
                    return Err(Refusal::new(Kind::InvalidSignature, message));
                }
                value.to_owned()
            }
            None => sha256(body),
        };
        let scope = Scope {
            access_key: &self.access_key,
            secret,
            region: &self.region,
            service: SERVICE,
            at: u64::try_from(self.moment.0).unwrap_or(0),
        };
        let expires = match self.form {
            Form::Header => None,
            Form::Query { expires } => Some(u64::from(expires)),
        };
        let signature = scope.signature(request, &self.signed_headers, payload_hash, expires);
        if !signature.is_some_and(|signature| signature.is(&self.signature)) {
            return Err(mismatch());
        }
        let Some(chunks) = chunks else { return Ok(Cow::Borrowed(body)) };
        let announced = match request.single("x-amz-decoded-content-length")? {
            None => None,
            Some(length) => Some(length.parse().map_err(|_| {
                incomplete("The header 'x-amz-decoded-content-length' is no number.".to_owned())
            })?),
        };
        let (key, date) = (scope.key(), self.moment.to_string());
        let scope = format!("{}/{}/{SERVICE}/{TERMINATOR}", self.date, self.region);
        let chain =
            Chain { key: key.as_ref(), date: &date, scope: &scope, previous: self.signature_text.clone() };
        decode(body, chunks, chain, announced).map(Cow::Owned)
    }

    fn is_current(&self, now: Moment) -> Result<(), Refusal> {
        let latest = Moment(now.0.saturating_add(SKEW_SECONDS));
        if self.moment > latest {
            let minutes = SKEW_SECONDS / 60;
            let message = format!(
                "Signature not yet current: {} is still later than {latest} ({now} + {minutes} min.)",
                self.moment
            );
            return Err(Refusal::new(Kind::InvalidSignature, message));
        }
        let good_for = match self.form {
            Form::Header => SKEW_SECONDS,
            Form::Query { expires } => i64::from(expires),
        };
        let earliest = Moment(now.0.saturating_sub(good_for));
        if self.moment < earliest {
            let (count, unit) = if good_for % 60 == 0 { (good_for / 60, "min.") } else { (good_for, "s") };
            let message = format!(
                "Signature expired: {} is now earlier than {earliest} ({now} - {count} {unit})",
                self.moment
            );
            return Err(Refusal::new(Kind::InvalidSignature, message));
        }
        Ok(())
    }
}

/// Nothing is said of where they differ.
pub(super) fn mismatch() -> Refusal {
    Refusal::new(
        Kind::InvalidSignature,
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
         and signing method. Consult the service documentation for details.",
    )
}

fn incomplete(message: String) -> Refusal {
    Refusal::new(Kind::IncompleteSignature, message)
}

fn in_header(request: &Request<'_>, authorization: &str) -> Result<Presented, Refusal> {
    let (algorithm, rest) = authorization.split_once(' ').unwrap_or((authorization, ""));
    if algorithm != ALGORITHM {
        return Err(incomplete(format!("The Authorization header must begin with {ALGORITHM}.")));
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for pair in rest.split(',') {
        let found = pair.trim().split_once('=');
        let (name, value) = found.ok_or_else(|| {
            incomplete("The Authorization header has a piece that is no key=value pair.".to_owned())
        })?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => continue,
        };
        if slot.replace(value.trim()).is_some() {
            return Err(incomplete(format!("Authorization header has '{name}' twice.")));
        }
    }
    let pieces = [("Credential", credential), ("SignedHeaders", signed_headers), ("Signature", signature)];
    let missing: Vec<String> = pieces
        .iter()
        .filter(|(_, value)| value.is_none_or(str::is_empty))
        .map(|(name, _)| format!("Authorization header requires '{name}' parameter."))
        .collect();
    if !missing.is_empty() {
        return Err(incomplete(missing.join(" ")));
    }
    let date = request.single("x-amz-date")?.ok_or_else(|| {
        incomplete("Authorization header requires existence of a 'X-Amz-Date' header.".to_owned())
    })?;
    let token = request.single("x-amz-security-token")?.map(str::to_owned);
    let [credential, signed_headers, signature] = pieces.map(|(_, value)| value.unwrap_or_default());
    read(Form::Header, credential, date, signed_headers, signature, token)
}

/// Decoded parameters of a query in their order. A plus is a space, as in forms, which is how signers of SDKs read a query.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

fn in_query(request: &Request<'_>) -> Result<Presented, Refusal> {
    let parameters: Vec<(String, String)> = parameters(request.query.unwrap_or_default()).collect();
    let single = |name: &str| -> Result<Option<&str>, Refusal> {
        let mut values =
            parameters.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let value = values.next();
        match values.next() {
            Some(_) => Err(incomplete(format!("AWS query-string parameters have '{name}' twice."))),
            None => Ok(value),
        }
    };
    let Some(algorithm) = single("X-Amz-Algorithm")? else {
        return Err(Refusal::new(Kind::MissingAuthenticationToken, "Missing Authentication Token"));
    };
    if algorithm != ALGORITHM {
        return Err(incomplete(format!("'X-Amz-Algorithm' must be {ALGORITHM}.")));
    }
    let needed = |name: &str| {
        let value = single(name)?.filter(|value| !value.is_empty());
        value.ok_or_else(|| incomplete(format!("AWS query-string parameters must include '{name}'.")))
    };
    let expires = needed("X-Amz-Expires")?.parse().ok().filter(|seconds| (1..=EXPIRES_MAX).contains(seconds));
    let expires = expires.ok_or_else(|| {
        incomplete(format!("'X-Amz-Expires' must be a number of seconds from 1 to {EXPIRES_MAX}."))
    })?;
    let token = match single("X-Amz-Security-Token")? {
        Some(token) => Some(token.to_owned()),
        None => request.single("x-amz-security-token")?.map(str::to_owned),
    };
    read(
        Form::Query { expires },
        needed("X-Amz-Credential")?,
        needed("X-Amz-Date")?,
        needed("X-Amz-SignedHeaders")?,
        needed("X-Amz-Signature")?,
        token,
    )
}

fn read(
    form: Form,
    credential: &str,
    date: &str,
    signed_headers: &str,
    signature: &str,
    security_token: Option<String>,
) -> Result<Presented, Refusal> {
    let pieces: Vec<&str> = credential.split('/').collect();
    let [access_key, day, region, service, terminator] = pieces[..] else {
        return Err(incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term."
                .to_owned(),
        ));
    };
    if access_key.is_empty() {
        return Err(incomplete("Credential names no key.".to_owned()));
    }
    let moment = Moment::parse(date).ok_or_else(|| {
        incomplete("Date must be in ISO-8601 'basic format', as 20260713T141516Z.".to_owned())
    })?;
    let scope = |message: String| Refusal::new(Kind::InvalidSignature, message);
    if service != SERVICE {
        return Err(scope(format!("Credential should be scoped to correct service: '{SERVICE}'.")));
    }
    if terminator != TERMINATOR {
        return Err(scope(format!("Credential should be scoped with a valid terminator: '{TERMINATOR}'.")));
    }
    if day.len() != 8 || !date.starts_with(day) {
        let day: String = day.chars().take(16).collect();
        return Err(scope(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{day}' != '{}', \
             from '{date}'.",
            &date[..8]
        )));
    }
    let mut names: Vec<String> = signed_headers.split(';').map(str::to_ascii_lowercase).collect();
    names.sort();
    names.dedup();
    Ok(Presented {
        form,
        access_key: access_key.to_owned(),
        date: day.to_owned(),
        region: region.to_owned(),
        moment,
        signed_headers: names,
        signature: Signature::parse(signature)
            .ok_or_else(|| incomplete("Signature must be 64 hexadecimal digits.".to_owned()))?,
        signature_text: signature.to_owned(),
        security_token,
    })
}
