//! What a plugin asks for and does not get, told from all three sides: its manifest, the transform, the tenant's policy.

use wasmill_config::{GrantPolicy, Transform};
use wasmill_transform::Manifest;

/// A text for the end of a refusal; empty where that is not for want of something which the manifest asks for.
pub(super) fn told(manifest: &Manifest, transform: &Transform, refusal: &str) -> String {
    let policy = transform.policy.as_ref();
    let granted = |names: fn(&GrantPolicy) -> &Vec<String>| policy.map(names).map(Vec::as_slice);
    let mut text = String::new();
    let files = (&manifest.grants.files, transform.files.keys().collect(), granted(|policy| &policy.files));
    let secrets =
        (&manifest.grants.secrets, transform.secrets.keys().collect(), granted(|policy| &policy.secrets));
    // Models are whatever the tenant's directory has: no policy names them.
    let models = (&manifest.grants.models, transform.models.keys().collect(), None);
    for (kind, (asked, named, granted)) in [("file", files), ("secret", secrets), ("model", models)] {
        let named: Vec<&String> = named;
        // What a plugin was told that asked for it; many names of a manifest are such that it asks for none.
        let is_told = |name: &String| {
            refusal.contains(&format!("no {kind} `{name}` is granted"))
                || refusal.contains(&format!("no {kind} {name:?} is granted"))
        };
        let missing: Vec<&String> =
            asked.iter().filter(|name| !named.contains(name) && is_told(name)).collect();
        let Some(first) = missing.first() else { continue };
        let more = match missing.len() {
            1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        text.push_str(&format!(
            "; its manifest asks for the {kind} {first:?}{more}, which the transform's \"{kind}s\" do not name"
        ));
        match granted {
            Some([]) => text.push_str(&format!(", and the tenant's policy grants no {kind}")),
            Some(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                text.push_str(&format!(" (the tenant's policy grants {})", names.join(", ")));
            }
            None => {}
        }
    }
    text
}
