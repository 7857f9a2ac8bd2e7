//! Keys of a `MetadataExtractionQuery`, as far as its text says them.
//!
//! The query is one object of jq, and Firehose wants each of its keys in the prefix. Nothing is evaluated here: of a program whose
//! keys are not plain to see nothing is known, and nothing is said.

use super::Template;
use crate::wire::Refusal;

/// Keys of one query.
const KEYS_MAX: usize = 50;

/// Holds prefix and query to each other.
///
/// # Errors
/// `InvalidArgumentException`: a key that one has and the other has not, or too many.
pub fn check_query(prefix: &Template, query: &str) -> Result<(), Refusal> {
    let Some(given) = keys(query) else { return Ok(()) };
    if given.len() > KEYS_MAX {
        return Err(Refusal::invalid(format!(
            "MetadataExtractionQuery has {} keys, at most {KEYS_MAX} are permitted",
            given.len()
        )));
    }
    if let Some(key) = prefix.query_keys().find(|key| !given.iter().any(|given| given == key)) {
        return Err(Refusal::invalid(format!(
            "S3 Prefix has !{{partitionKeyFromQuery:{key}}}, which MetadataExtractionQuery does not give"
        )));
    }
    match given.iter().find(|given| !prefix.query_keys().any(|key| key == given.as_str())) {
        None => Ok(()),
        Some(unused) => Err(Refusal::invalid(format!(
            "MetadataExtractionQuery gives the key {unused:?}, which S3 Prefix does not use: every key must be there as \
             !{{partitionKeyFromQuery:{unused}}}"
        ))),
    }
}

/// `None`: they cannot be told.
fn keys(query: &str) -> Option<Vec<String>> {
    let inner = query.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut keys: Vec<String> = Vec::new();
    for member in members(inner)? {
        let key = key(member.trim())?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Some(keys)
}

/// What stands between commas that are in no brackets and in no text.
fn members(inner: &str) -> Option<Vec<&str>> {
    let (mut members, mut from, mut depth, mut in_text) = (Vec::new(), 0, 0_usize, false);
    let mut bytes = inner.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (in_text, byte) {
            // What is behind it belongs to it; programs within texts are not looked into.
            (true, b'\\') if bytes.next()?.1 == b'(' => return None,
            (true, b'"') => in_text = false,
            (true, _) => {}
            (false, b'"') => in_text = true,
            (false, b'{' | b'[' | b'(') => depth += 1,
            (false, b'}' | b']' | b')') => depth = depth.checked_sub(1)?,
            (false, b',') if depth == 0 => {
                members.push(inner.get(from..at)?);
                from = at + 1;
            }
            // A comment.
            (false, b'#') => return None,
            (false, _) => {}
        }
    }
    members.push(inner.get(from..)?);
    (depth == 0 && !in_text).then_some(members)
}

/// `name: value`, `"name": value`, `name` or `$name`.
fn key(member: &str) -> Option<String> {
    let (key, rest) = match member.strip_prefix('"') {
        Some(text) => {
            let mut escaped = false;
            let end = text.bytes().position(|byte| {
                let ends = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            })?;
            // Texts of jq are those of JSON.
            (serde_json::from_str(member.get(..end + 2)?).ok()?, member.get(end + 2..)?)
        }
        None => {
            let name = member.strip_prefix('$').unwrap_or(member);
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let length = name.bytes().take_while(is_part).count();
            let (name, rest) = name.split_at_checked(length)?;
            let is_name = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
            (is_name.then(|| name.to_owned())?, rest)
        }
    };
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with(':')).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Place;
    use super::*;

    #[test]
    fn keys_are_those_of_the_object_where_they_are_plain_to_see() {
        for (query, expected) in [
            ("{a:.a}", Some(vec!["a"])),
            (" { \"a b\" : .x , c : .y } ", Some(vec!["a b", "c"])),
            (r#"{customer_id:.customer_id,year:.ts|strftime("%Y,%m")}"#, Some(vec!["customer_id", "year"])),
            (r#"{a:(.b, .c | [.,1]), "d\"e":{f:1,g:2}}"#, Some(vec!["a", "d\"e"])),
            ("{a, $b, a}", Some(vec!["a", "b"])),
            ("{}", None),
            ("{a:.a,}", None),
            ("{(.k):.v}", None),
            (r#"{"\(.k)":.v}"#, None),
            ("{a:.a} | {b:.b}", None),
            (". | {a:.a}", None),
            ("{a:.a # , b\n}", None),
            ("{a:if .x then .y, 2 else 3 end}", None),
            ("{a:\"", None),
            ("{a:.a)}", None),
            ("", None),
        ] {
            let expected = expected.map(|keys| keys.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(keys(query), expected, "{query}");
        }
    }

    #[test]
    fn prefix_and_query_have_the_same_keys() {
        let prefix =
            Template::parse("!{partitionKeyFromQuery:a}/!{partitionKeyFromLambda:l}/", Place::Prefix)
                .unwrap();
        for (query, broken) in [
            ("{a:.a}", ""),
            (".x as $x | {b:1}", ""),
            ("{b:.b}", "has !{partitionKeyFromQuery:a}, which MetadataExtractionQuery does not give"),
            ("{a:.a,l:.l}", "gives the key \"l\", which S3 Prefix does not use"),
        ] {
            let told = check_query(&prefix, query).map_or_else(|refusal| refusal.message, |()| String::new());
            assert!(told.contains(broken) && told.is_empty() == broken.is_empty(), "{query}: {told}");
        }
        let many: Vec<String> = (0..51).map(|n| format!("k{n}:.a")).collect();
        let refusal = check_query(&prefix, &format!("{{{}}}", many.join(","))).unwrap_err();
        assert!(refusal.message.contains("51 keys"), "{refusal}");
    }

    proptest! {
        #[test]
        fn any_text_has_keys_or_none(text in r#"[a-c${}\[\]()",:|\\# é]{0,40}"#) {
            let _told = keys(&text);
            let _told = keys(&format!("{{{text}}}"));
        }
    }
}
