//! From the config to what is done with each field: checked rules, and the fields with the rules that touch them.
//!
//! Refuses combinations that mean nothing or would leak: rules on fields beside rules on the payload (the field
//! would be written back as it was read), and rules on fields of which one lies within the other.

use wasmill_sdk::{Field, Setup};

use crate::act::{Act, Redactor, Rule};
use crate::config::{self, Action, Config, Payload};
use crate::find::{Finder, Span};
use crate::keyed::Keyed;
use wasmill_sdk::path::Path;

/// Most rules of one transform.
pub const RULES_MAX: usize = 256;
/// Longest replacement, prefix and mask in characters.
pub const TEXT_MAX: usize = 256;
/// Characters that may mask: none of them can be part of what the built-in finders look for.
pub const MASKS: &str = "*#xX?~=";

/// Where rules look.
#[derive(Debug)]
pub enum Scope {
    /// Fields, each with the positions of its rules.
    Fields(Vec<(Field, Vec<usize>)>),
    /// The payload, with all rules.
    Payload(Payload, Vec<usize>),
}

/// Checks the config and declares the fields.
pub fn plan(config: &Config, setup: &mut Setup) -> Result<(Scope, Redactor), String> {
    if config.rules.is_empty() || config.rules.len() > RULES_MAX {
        return Err(format!("config: `rules` needs 1 to {RULES_MAX} entries"));
    }
    let keyed = keyed(config, setup)?;
    let mut rules = Vec::with_capacity(config.rules.len());
    let mut fields: Vec<(Path, Vec<usize>)> = Vec::new();
    let mut payload: Option<Payload> = None;
    for (number, rule) in config.rules.iter().enumerate() {
        let at = |what: String| format!("rule {}: {what}", number + 1);
        rules.push(compiled(rule).map_err(at)?);
        let named: &[Path] = match (&rule.field, &rule.fields, rule.payload) {
            (Some(field), None, None) => std::slice::from_ref(field),
            (None, Some(fields), None) if !fields.is_empty() => fields,
            (None, None, Some(mode)) => {
                if rule.find.is_none() {
                    return Err(at("`payload` needs `find`".to_owned()));
                }
                if payload.is_some_and(|before| before != mode) {
                    return Err(at("`payload` is `text` in one rule and `json` in another".to_owned()));
                }
                payload = Some(mode);
                &[]
            }
            _ => return Err(at("needs exactly one of `field`, `fields`, `payload`".to_owned())),
        };
        for path in named {
            match fields.iter_mut().find(|(known, _)| known == path) {
                Some((_, rules)) => rules.push(number),
                None => fields.push((path.clone(), vec![number])),
            }
        }
    }
    for (at, (path, _)) in fields.iter().enumerate() {
        if let Some((inner, _)) = fields
            .iter()
            .enumerate()
            .find_map(|(other, inner)| (other != at && inner.0.0.starts_with(&path.0)).then_some(inner))
        {
            return Err(format!(
                "`{}` lies within `{}`; name one of them, or use a second transform",
                inner.shown(),
                path.shown()
            ));
        }
    }
    let scope = match payload {
        Some(_) if !fields.is_empty() => {
            return Err("rules on fields and rules on the payload belong into two transforms".to_owned());
        }
        Some(mode) => Scope::Payload(mode, (0..rules.len()).collect()),
        None => {
            let declared = fields.into_iter().map(|(path, rules)| (setup.field(&path.0), rules));
            Scope::Fields(declared.collect())
        }
    };
    Ok((scope, Redactor::new(rules, keyed)))
}

fn keyed(config: &Config, setup: &mut Setup) -> Result<Option<Keyed>, String> {
    let hashes = config.rules.iter().any(|rule| rule.action == Action::Hash);
    match (&config.secret, hashes) {
        (None, false) => Ok(None),
        (None, true) => Err("`hash` needs `secret`: the name of a granted secret".to_owned()),
        (Some(_), false) => Err("`secret` is given, but no rule has the action `hash`".to_owned()),
        (Some(name), true) => {
            let secret = setup.secret(name)?;
            Keyed::new(secret.as_bytes(), config.length).map(Some)
        }
    }
}

fn compiled(rule: &config::Rule) -> Result<Rule, String> {
    let finder = rule.find.as_deref().map(Finder::new).transpose()?;
    let masks = rule.mask.is_some() || rule.keep_last.is_some() || rule.mask_length.is_some();
    if masks && rule.action != Action::Mask {
        return Err("`mask`, `keep_last` and `mask_length` belong to the action `mask`".to_owned());
    }
    if rule.with.is_some() && rule.action != Action::Replace {
        return Err("`with` belongs to the action `replace`".to_owned());
    }
    if rule.prefix.is_some() && rule.action != Action::Hash {
        return Err("`prefix` belongs to the action `hash`".to_owned());
    }
    let act = match rule.action {
        Action::Drop => Act::Drop,
        Action::Mask => {
            let mask = rule.mask.unwrap_or('*');
            let byte = u8::try_from(mask).ok().filter(|_| MASKS.contains(mask));
            let byte = byte.ok_or_else(|| format!("`mask` is one of the characters {MASKS}"))?;
            let (keep_last, length) = (rule.keep_last.unwrap_or(0), rule.mask_length);
            if keep_last > TEXT_MAX || length.is_some_and(|length| length == 0 || length > TEXT_MAX) {
                return Err(format!("`keep_last` is at most {TEXT_MAX}, `mask_length` from 1 to {TEXT_MAX}"));
            }
            Act::Mask { byte, keep_last, length }
        }
        Action::Hash => Act::Hash { prefix: fixed(rule.prefix.as_deref().unwrap_or(""), finder.as_ref())? },
        Action::Replace => {
            let with = rule.with.as_deref().ok_or("`replace` needs `with`")?;
            Act::Replace { with: fixed(with, finder.as_ref())? }
        }
    };
    Ok(Rule { finder, act })
}

/// A text of the config that is put into records: short, and nothing that would be found again.
fn fixed(text: &str, finder: Option<&Finder>) -> Result<Vec<u8>, String> {
    if text.chars().count() > TEXT_MAX {
        return Err(format!("`{text}` is longer than {TEXT_MAX} characters"));
    }
    let mut spans: Vec<Span> = Vec::new();
    if let Some(finder) = finder {
        finder.built_in(text.as_bytes(), &mut spans);
    }
    if !spans.is_empty() {
        return Err(format!("`{text}` itself contains what the rule finds"));
    }
    Ok(text.as_bytes().to_vec())
}
