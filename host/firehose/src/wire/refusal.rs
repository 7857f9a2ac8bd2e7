//! Why a request is refused: the exceptions of the API, those that every AWS JSON service has, and their bodies.

use std::fmt;

use serde::Serialize;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal $status:literal,)+) => {
        /// An exception by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind),+ }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// What stands in `__type`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),+ }
            }

            /// The status of the reply.
            pub fn status(self) -> u16 {
                match self { $(Kind::$kind => $status),+ }
            }
        }
    };
}

// Statuses: those of the API Reference where it models the exception. For the others its page of common errors and what
// the service sends differ (UnknownOperationException is 404 there, and 400 in clients' logs); here is what JSON services send.
kinds! {
    ConcurrentModification = "ConcurrentModificationException" 400,
    InvalidArgument = "InvalidArgumentException" 400,
    InvalidKmsResource = "InvalidKMSResourceException" 400,
    InvalidSource = "InvalidSourceException" 400,
    LimitExceeded = "LimitExceededException" 400,
    ResourceInUse = "ResourceInUseException" 400,
    ResourceNotFound = "ResourceNotFoundException" 400,
    /// Clients ask again after it.
    ServiceUnavailable = "ServiceUnavailableException" 500,

    AccessDenied = "AccessDeniedException" 400,
    ExpiredToken = "ExpiredTokenException" 400,
    IncompleteSignature = "IncompleteSignatureException" 400,
    InternalFailure = "InternalFailure" 500,
    InvalidSignature = "InvalidSignatureException" 400,
    MissingAuthenticationToken = "MissingAuthenticationTokenException" 400,
    RequestTooLarge = "RequestEntityTooLargeException" 413,
    Serialization = "SerializationException" 400,
    /// Clients ask again after it, more slowly.
    Throttling = "ThrottlingException" 400,
    UnknownOperation = "UnknownOperationException" 400,
    UnrecognizedClient = "UnrecognizedClientException" 400,
    Validation = "ValidationException" 400,
}

/// A request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    pub message: String,
    /// Of `InvalidKMSResourceException` and `InvalidSourceException` alone.
    pub code: Option<&'static str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    pub fn new(kind: Kind, message: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), code: None }
    }

    pub fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(Kind::InvalidArgument, message)
    }

    /// There is no such stream.
    pub fn not_found(name: &str, account: &str) -> Refusal {
        Refusal::new(Kind::ResourceNotFound, format!("Firehose {name} under account {account} not found."))
    }

    /// There is such a stream already.
    pub fn in_use(name: &str, account: &str) -> Refusal {
        Refusal::new(Kind::ResourceInUse, format!("Firehose {name} under account {account} already exists"))
    }

    /// The key that a request names is none, or none any more.
    pub fn unrecognized_client() -> Refusal {
        Refusal::new(Kind::UnrecognizedClient, "The security token included in the request is invalid.")
    }

    /// The key may not do this.
    pub fn access_denied(user: &str, operation: super::Operation, arn: &str) -> Refusal {
        let name = operation.name();
        let message =
            format!("User: {user} is not authorized to perform: firehose:{name} on resource: {arn}");
        Refusal::new(Kind::AccessDenied, message)
    }

    /// The body is over [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX).
    pub fn body_too_large() -> Refusal {
        let max = super::BODY_BYTES_MAX;
        Refusal::new(Kind::RequestTooLarge, format!("the body of a request may have at most {max} bytes"))
    }

    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The body of the reply.
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(rename = "__type")]
            name: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'a str>,
        }
        super::json(&Body { name: self.kind.name(), message: &self.message, code: self.code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_the_exception_and_has_its_message_in_lower_case() {
        let refusal = Refusal::not_found("clicks", "123456789012");
        assert_eq!(
            String::from_utf8(refusal.body()).unwrap(),
            r#"{"__type":"ResourceNotFoundException","message":"Firehose clicks under account 123456789012 not found."}"#
        );
        let refusal =
            Refusal { code: Some("NotFound"), ..Refusal::new(Kind::InvalidKmsResource, "no \"key\"") };
        assert_eq!(
            String::from_utf8(refusal.body()).unwrap(),
            r#"{"__type":"InvalidKMSResourceException","message":"no \"key\"","code":"NotFound"}"#
        );
    }

    #[test]
    fn only_what_a_client_may_ask_again_is_a_fault_of_the_server() {
        let of_server: Vec<&str> =
            Kind::ALL.iter().filter(|kind| kind.status() >= 500).map(|kind| kind.name()).collect();
        assert_eq!(of_server, ["ServiceUnavailableException", "InternalFailure"]);
    }
}
