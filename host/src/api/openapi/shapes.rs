//! Shapes of what is sent and answered.

use utoipa::openapi::schema::{AdditionalProperties, SchemaType, Type};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema};

/// A shape, written down.
pub(super) enum Shape {
    Text,
    Number,
    /// That need not be whole.
    Fraction,
    Flag,
    /// Any JSON.
    Any,
    Bytes,
    /// One of [`NAMED`].
    Named(&'static str),
    List(&'static Shape),
    /// This, or null.
    Perhaps(&'static Shape),
    OneOf(&'static [&'static str]),
    /// Fields with what they mean.
    Object(&'static [Field]),
    /// Fields that may still change: these, and others.
    Open(&'static [Field]),
}

/// Name, shape, meaning; a name that ends in `?` need not be there.
pub(super) type Field = (&'static str, Shape, &'static str);

use Shape::{Any, Flag, Fraction, List, Named, Number, Object, OneOf, Open, Perhaps, Text};

const SCOPES: Shape = List(&OneOf(&["push", "read", "plugins", "admin", "operator"]));

/// Shapes that have a name.
pub(super) const NAMED: &[(&str, Shape)] = &[
    (
        "Refusal",
        Object(&[(
            "error",
            Object(&[
                ("code", Text, "for programs"),
                ("message", Text, "for people"),
                (
                    "problems?",
                    List(&Object(&[("key", Text, "of the definition"), ("message", Text, "")])),
                    "of bad_definition: all of them",
                ),
            ]),
            "why the request was refused",
        )]),
    ),
    (
        "Receipt",
        Object(&[
            ("records", Number, "how many there were"),
            ("first_offset?", Number, "of the first record"),
            ("last_offset?", Number, "of the last record"),
            ("duplicate?", Flag, "of a numbered request: it was stored before"),
        ]),
    ),
    (
        "Key",
        Object(&[
            ("id", Text, "the name by which everybody may speak of it"),
            ("name", Text, "for people"),
            ("tenant", Text, "whose it is"),
            ("scopes", SCOPES, "what it may do"),
            ("signs", Flag, "whether requests may be signed with it, as AWS's SDKs do"),
            ("state", OneOf(&["active", "expired", "revoked"]), ""),
            ("created_ms", Number, "milliseconds since 1970, as all moments"),
            ("expires_ms", Perhaps(&Number), "from when on it is of no use; null: never"),
            ("revoked_ms", Perhaps(&Number), "when it was revoked"),
            ("last_used_ms", Perhaps(&Number), "to about a minute"),
            ("rotated_ms", Perhaps(&Number), "when it got its present secret, if that is not the first"),
            ("previous_until_ms", Perhaps(&Number), "until when the secret before is good"),
        ]),
    ),
    (
        "KeyWithSecret",
        Object(&[
            ("key", Named("Key"), ""),
            ("secret", Text, "the text of the key, wm_<id>_<secret>: it is shown here and never again"),
            (
                "signing?",
                Object(&[("access_key_id", Text, "the id of the key"), ("secret_access_key", Text, "")]),
                "of a key that signs: what an AWS SDK is configured with",
            ),
        ]),
    ),
    (
        "Tenant",
        Object(&[
            ("name", Text, ""),
            ("created_ms", Number, ""),
            ("disabled", Flag, "whether its keys are of no use"),
            ("keys", Number, "how many are active"),
            ("owner", Text, "`file`, where `[tenants.NAME]` of the configuration names it, or `api`"),
            ("left_file", Flag, "whether the configuration named it once, and does so no more"),
        ]),
    ),
    (
        "Table",
        Object(&[
            ("transform", Text, ""),
            ("table", Text, "as the plugin declares it"),
            ("strand?", Number, "whose part of the table it is, in a stream with `parallel`"),
            ("version", Number, "of the layout of its values"),
            ("ttl_ns", Number, "entries that were not written for so long are gone; 0: they stay"),
            ("entries", Number, ""),
            ("bytes", Number, "as the quota state_bytes counts them"),
        ]),
    ),
    (
        "Entry",
        Object(&[
            ("strand?", Number, "that has it, in a stream with `parallel`"),
            ("group", Number, "key group"),
            ("key?", Text, "where it is text"),
            ("key_base64", Text, ""),
            ("value?", Text, "where it is text"),
            ("value_base64", Text, ""),
            ("sum?", Number, "of a value of eight bytes"),
        ]),
    ),
    (
        "Quotas",
        Object(&[
            ("records_per_second?", Number, ""),
            ("bytes_per_second?", Number, ""),
            ("requests?", Number, ""),
            ("body_bytes?", Number, ""),
            ("buffered_bytes?", Number, ""),
            ("cpu?", Fraction, ""),
            ("plugin_memory?", Number, ""),
            ("warm_memory?", Number, ""),
            ("plugins?", Number, ""),
            ("plugin_bytes?", Number, ""),
            ("streams?", Number, ""),
            ("dead_letter_bytes?", Number, ""),
            ("state_bytes?", Number, ""),
            ("compile_seconds?", Number, ""),
            ("deliveries?", Number, ""),
        ]),
    ),
    (
        "Usage",
        Object(&[
            ("tenant", Text, ""),
            ("from", Text, "the beginning of the span"),
            ("seconds", Number, "its length"),
            ("stream?", Text, ""),
            ("plugin?", Text, ""),
            ("records_in", Number, "records that have a receipt; by plugin, rows that went into it"),
            ("bytes_in", Number, "bytes of these records"),
            (
                "records_out",
                Number,
                "records that were delivered, of all outputs; by plugin, rows that came out of it",
            ),
            ("bytes_out", Number, "bytes that were delivered; by plugin, of these rows"),
            ("dead_letters", Number, "that were written; by plugin, records that failed in it"),
            ("calls", Number, "of plugins"),
            ("cpu_ns", Number, "CPU time of these calls, in nanoseconds"),
            ("traps", Number, "calls that failed as a whole"),
            ("worker_cpu_ns", Number, "CPU time of the workers; of a tenant as a whole alone"),
            ("compile_cpu_ns", Number, "CPU time of the compiler; of a tenant as a whole alone"),
            ("memory_bytes_max", Number, "largest linear memory of an instance"),
            ("buffered_bytes_max", Number, "most bytes that waited"),
        ]),
    ),
    ("TenantQuotas", Object(&[("tenant", Text, ""), ("quotas", Named("Quotas"), "")])),
    (
        "AuditEntry",
        Object(&[
            ("seq", Number, "counts from 1 in the tenant's log"),
            ("at_ms", Number, ""),
            (
                "who",
                Object(&[
                    ("key?", Text, "id of the key"),
                    ("subject?", Text, "of a token or a client certificate"),
                    ("tenant?", Text, "whose key it is, of an operator who acts for this tenant"),
                    ("address", Text, "of the client"),
                ]),
                "",
            ),
            ("method", Text, "or `ADD`, `CHANGE`, `REMOVE`, of a table of the configuration file"),
            ("route", Text, "the pattern of the path, or the table"),
            ("target", Text, "the path of what it was about"),
            ("status", Number, "of the answer"),
            ("code?", Text, "of the refusal"),
            ("reason?", Text, "what the client was not told"),
            ("not_written?", Number, "refusals before this one that were too many to be written"),
        ]),
    ),
    (
        "Versions",
        Open(&[
            ("plugin", Text, ""),
            ("pinned", Perhaps(&Text), "digest"),
            ("newest", Perhaps(&Text), "digest of what the plugin directory has"),
            ("versions", List(&Any), "as in GET /v1/plugins"),
            ("message?", Text, "what was done"),
        ]),
    ),
    (
        "Shadow",
        Open(&[
            ("plugin", Text, ""),
            ("reports", List(&Any), "by stream"),
            ("message?", Text, "what was done"),
        ]),
    ),
    (
        "Stream",
        Object(&[
            ("name", Text, ""),
            ("owner", OneOf(&["api", "file"]), "who may change it"),
            ("state", OneOf(&["running", "paused", "ended", "changing", "failed"]), ""),
            ("reason", Perhaps(&Text), "of a stream that is paused or failed"),
            ("version", Perhaps(&Number), "as in ETag; null: the file's"),
            ("changed_ms", Perhaps(&Number), "when this version was made"),
            ("definition", Any, "what [streams.NAME] has, without what may be secret"),
        ]),
    ),
    (
        "StreamVersion",
        Object(&[
            ("version", Number, ""),
            ("at_ms", Number, ""),
            ("by", Any, "key, subject, tenant and address, as in the audit log"),
            ("definition", Any, "null: the stream was removed"),
            ("discarded", Any, "what went with it"),
        ]),
    ),
    ("Replay", Open(&[("id", Text, ""), ("state", Text, "")])),
    ("Letter", Open(&[("number", Number, ""), ("stage", Text, ""), ("reason", Text, "")])),
    ("Which", Object(&[("digest?", Perhaps(&Text), "sha256:<64 hex digits>")])),
];

fn typed(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(kind))
}

fn fields(builder: ObjectBuilder, fields: &[Field]) -> ObjectBuilder {
    fields.iter().fold(builder, |builder, (name, of, text)| {
        let (name, needed) = match name.strip_suffix('?') {
            Some(name) => (name, false),
            None => (*name, true),
        };
        let builder = builder.property(name, described(of, text));
        if needed { builder.required(name) } else { builder }
    })
}

fn described(of: &Shape, text: &str) -> RefOr<Schema> {
    let mut made = shape(of);
    if text.is_empty() {
        return made;
    }
    match &mut made {
        RefOr::T(Schema::Object(object)) => object.description = Some(text.to_owned()),
        RefOr::T(Schema::Array(array)) => array.description = Some(text.to_owned()),
        RefOr::Ref(named) => named.description = text.to_owned(),
        RefOr::T(_) => {}
    }
    made
}

/// For the document.
pub(super) fn shape(of: &Shape) -> RefOr<Schema> {
    let object: ObjectBuilder = match of {
        Shape::Text => typed(Type::String),
        Shape::Number => typed(Type::Integer),
        Shape::Fraction => typed(Type::Number),
        Shape::Flag => typed(Type::Boolean),
        Shape::Any => ObjectBuilder::new().schema_type(SchemaType::AnyValue),
        Shape::Bytes => typed(Type::String).content_encoding("binary"),
        Shape::OneOf(texts) => typed(Type::String).enum_values(Some(texts.iter().copied())),
        Shape::Object(of) => fields(typed(Type::Object), of)
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false))),
        Shape::Open(of) => fields(typed(Type::Object), of),
        Shape::Named(name) => return Ref::from_schema_name(*name).into(),
        Shape::List(of) => return ArrayBuilder::new().items(shape(of)).build().into(),
        Shape::Perhaps(of) => {
            let kind = match of {
                Shape::Number => Type::Integer,
                Shape::Fraction => Type::Number,
                Shape::Flag => Type::Boolean,
                _ => Type::String,
            };
            ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null]))
        }
    };
    object.build().into()
}
