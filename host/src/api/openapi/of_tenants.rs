//! What the OpenAPI document says of quotas and usage.

use super::operations::{ACCESS, Body, JSON, Said};
use super::shapes::Shape::{Fraction, List, Named, Number, Object, Perhaps, Text};

pub(super) const OPERATIONS: &[Said] = &[
    Said::new(
        "GET",
        "/v1/quotas",
        ("getQuotas", ACCESS),
        "What one's tenant may use, and how much of it is used",
        Object(&[
            ("tenant", Text, ""),
            (
                "quotas",
                List(&Object(&[
                    ("quota", Text, "its name"),
                    ("limit", Perhaps(&Fraction), "null: none"),
                    ("unit", Text, "what limit and use count"),
                    (
                        "set_by",
                        Perhaps(&Text),
                        "configuration or operator; null: nobody, so that it is the default",
                    ),
                    ("used", Perhaps(&Fraction), "at this moment; null of what has no moment, such as rates"),
                    ("refused", Number, "how often something was not let through since the start"),
                ])),
                "",
            ),
        ]),
    ),
    Said {
        text: "The header ETag of the answer is for If-Match.",
        refusals: &[(403, "auth_off"), (404, "no_tenant")],
        ..Said::new(
            "GET",
            "/v1/tenants/{name}/quotas",
            ("getTenantQuotas", ACCESS),
            "The quotas that were set for a tenant",
            Named("TenantQuotas"),
        )
    },
    Said {
        text: "Takes the place of all that were set before, durably and at once. What the configuration sets of this tenant \
               by name is not changed here.",
        headers: &[("If-Match", "the ETag of the quotas that are to be changed")],
        bodies: &[Body { kind: JSON, shape: Named("Quotas") }],
        refusals: &[
            (403, "auth_off"),
            (404, "no_tenant"),
            (409, "set_by_configuration"),
            (412, "changed"),
            (503, "failed"),
        ],
        ..Said::new(
            "PUT",
            "/v1/tenants/{name}/quotas",
            ("setTenantQuotas", ACCESS),
            "Set the quotas of a tenant",
            Named("TenantQuotas"),
        )
    },
    Said {
        text: "As JSON a page, whose next is the from of the one behind it; with format=ndjson, or Accept: \
               application/x-ndjson, all of it, an object a line.",
        query: &[
            (
                "from",
                Text,
                "a time such as 2026-01-31T12:00:00Z, now, or so long ago: -2h, -7d; a day before to",
            ),
            ("to", Text, "as from; now"),
            ("by", Text, "tenant, stream or plugin; stream"),
            ("interval", Text, "minute, hour or day; hour"),
            ("format", Text, "json or ndjson"),
            ("limit", Number, "rows of a page, 1 to 10000; a span is on one page however many it has"),
            ("tenant", Text, "of an operator: another tenant, or * for all as NDJSON"),
        ],
        refusals: &[(400, "bad_query"), (429, "too_many_reads"), (503, "failed")],
        ..Said::new(
            "GET",
            "/v1/usage",
            ("getUsage", ACCESS),
            "What a tenant, its streams or its plugins have used, by time",
            Object(&[
                ("usage", List(&Named("Usage")), ""),
                ("next", Perhaps(&Text), "null: there is no more"),
            ]),
        )
    },
];
