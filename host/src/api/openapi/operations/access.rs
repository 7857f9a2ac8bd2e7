//! Of tenants, keys and the audit log.

use super::{ACCESS, Body, JSON, Said};
use crate::api::openapi::shapes::Shape::{self, Flag, List, Named, Number, Object, Perhaps, Text};

const OF_KEY: &[(u16, &str)] =
    &[(403, "auth_off"), (404, "no_key"), (404, "no_tenant"), (409, "key_ended"), (503, "failed")];
const OF_TENANT: &[(u16, &str)] =
    &[(403, "auth_off"), (404, "no_tenant"), (409, "default_tenant"), (503, "failed")];

const FORCE: (&str, Shape, &str) = (
    "force",
    Flag,
    "true: also where records of former streams of this name were not delivered, which are discarded",
);

const KEY: Shape = Object(&[("key", Named("Key"), "")]);
const TENANT: Shape = Object(&[("tenant", Named("Tenant"), "")]);

pub(super) const OPERATIONS: &[Said] = &[
    Said {
        refusals: &[(404, "no_tenant")],
        ..Said::new(
            "GET",
            "/v1/whoami",
            ("whoami", ACCESS),
            "What the key may do, and for whom",
            Object(&[
                ("tenant", Text, "whose things requests are about"),
                ("key_of", Text, "whose key it is"),
                ("scopes", List(&Text), "what it may do"),
                ("key", Perhaps(&Text), "id of the key"),
                ("name", Perhaps(&Text), "of the key"),
                ("subject", Perhaps(&Text), "of a token or a client certificate"),
            ]),
        )
    },
    Said {
        refusals: OF_KEY,
        ..Said::new(
            "GET",
            "/v1/keys",
            ("listKeys", ACCESS),
            "Keys of the tenant that may do no more than this one",
            Object(&[("keys", List(&Named("Key")), "")]),
        )
    },
    Said {
        text: "The text of the key is in this answer and in no other.",
        bodies: &[Body {
            kind: JSON,
            shape: Object(&[
                ("name", Text, "for people: 1 to 64 characters"),
                ("scopes", List(&Text), "none that the key that asks has not"),
                ("expires_in?", Perhaps(&Text), "such as 12h or 90d; without, it does not expire"),
                ("signs?", Flag, "true: requests may be signed with it, as AWS's SDKs do"),
            ]),
        }],
        answer: (201, JSON, Named("KeyWithSecret"), "it is made"),
        refusals: &[(403, "auth_off"), (404, "no_tenant"), (409, "too_many_keys"), (503, "failed")],
        ..Said::new("POST", "/v1/keys", ("createKey", ACCESS), "Make a key", Named("KeyWithSecret"))
    },
    Said { refusals: OF_KEY, ..Said::new("GET", "/v1/keys/{id}", ("getKey", ACCESS), "One key", KEY) },
    Said {
        refusals: OF_KEY,
        ..Said::new("DELETE", "/v1/keys/{id}", ("revokeKey", ACCESS), "End a key, at once", KEY)
    },
    Said {
        text: "The secret before is good until the grace time is over; one that is older still ends at once.",
        bodies: &[Body {
            kind: JSON,
            shape: Object(&[("grace?", Perhaps(&Text), "such as 10m or 7d, at most 30d; 1h unless given")]),
        }],
        refusals: OF_KEY,
        ..Said::new(
            "POST",
            "/v1/keys/{id}/rotate",
            ("rotateKey", ACCESS),
            "Give a key a new secret",
            Named("KeyWithSecret"),
        )
    },
    Said {
        query: &[("after", Number, "only entries above this number"), ("limit", Number, "1 to 1000")],
        refusals: &[(400, "bad_query"), (404, "no_tenant"), (503, "failed")],
        ..Said::new(
            "GET",
            "/v1/audit",
            ("readAudit", ACCESS),
            "A page of the tenant's audit log",
            Object(&[
                ("entries", List(&Named("AuditEntry")), "in order"),
                ("next", Perhaps(&Number), "after, for the next page"),
            ]),
        )
    },
    Said {
        refusals: OF_TENANT,
        ..Said::new(
            "GET",
            "/v1/tenants",
            ("listTenants", ACCESS),
            "All tenants",
            Object(&[("tenants", List(&Named("Tenant")), "")]),
        )
    },
    Said {
        bodies: &[Body {
            kind: JSON,
            shape: Object(&[(
                "name",
                Text,
                "1 to 64 letters, digits, - and _, beginning with a letter or a digit",
            )]),
        }],
        answer: (201, JSON, TENANT, "it is made"),
        query: &[FORCE],
        refusals: &[
            (400, "bad_query"),
            (403, "auth_off"),
            (409, "tenant_exists"),
            (409, "too_many_tenants"),
            (409, "not_drained"),
            (503, "changing"),
            (503, "failed"),
        ],
        ..Said::new("POST", "/v1/tenants", ("createTenant", ACCESS), "Make a tenant", TENANT)
    },
    Said {
        refusals: OF_TENANT,
        ..Said::new("GET", "/v1/tenants/{name}", ("getTenant", ACCESS), "One tenant", TENANT)
    },
    Said {
        text: "What is left of streams that were taken out of the configuration goes with it; their dead letters are put \
               aside.",
        query: &[FORCE],
        refusals: &[
            (400, "bad_query"),
            (403, "auth_off"),
            (404, "no_tenant"),
            (409, "default_tenant"),
            (409, "owned_by_file"),
            (409, "not_disabled"),
            (409, "has_streams"),
            (409, "not_drained"),
            (503, "changing"),
            (503, "failed"),
        ],
        ..Said::new(
            "DELETE",
            "/v1/tenants/{name}",
            ("deleteTenant", ACCESS),
            "Remove a disabled tenant that has no streams, with its keys",
            Object(&[("deleted", Text, "its name")]),
        )
    },
    Said {
        refusals: OF_TENANT,
        ..Said::new(
            "POST",
            "/v1/tenants/{name}/disable",
            ("disableTenant", ACCESS),
            "End the use of all keys of a tenant",
            TENANT,
        )
    },
    Said {
        refusals: OF_TENANT,
        ..Said::new(
            "POST",
            "/v1/tenants/{name}/enable",
            ("enableTenant", ACCESS),
            "Allow the use of a tenant's keys again",
            TENANT,
        )
    },
];
