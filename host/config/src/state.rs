//! Whether a transform's plugin may keep state, and the fields that say in which key group of it a record is.
//!
//! Whether a plugin asks for state is in its manifest, so a refusal is told where the chain is built.

use crate::authority::Authority;
use crate::resolve::Resolver;
use crate::settings::DEFAULT_TENANT;
use crate::tree;

/// Most fields of one transform's key.
const FIELDS_MAX: usize = 16;

impl Resolver<'_> {
    /// Why plugins of a stream of the tenant may keep none; `None`: they may.
    pub(crate) fn state_denied(&self, tenant: &str) -> Option<String> {
        match (self.authority, &self.policy) {
            (Authority::Bound(policy), _) => (!policy.state).then(|| {
                let table = match tenant {
                    DEFAULT_TENANT => "policy".to_owned(),
                    tenant => format!("tenants.{}.policy", tree::segment(tenant)),
                };
                format!("the tenant's policy, [{table}], has no \"state = true\"")
            }),
            (Authority::Operator, Some(policy)) => policy.state_denied(),
            (Authority::Operator, None) => None,
        }
    }

    pub(crate) fn state_key(&mut self, key: &str, written: &[String]) -> Vec<Vec<String>> {
        if written.len() > FIELDS_MAX {
            self.problem(key, format!("{} fields, the limit is {FIELDS_MAX}", written.len()));
        }
        let mut paths = Vec::with_capacity(written.len());
        for (index, text) in written.iter().enumerate() {
            match path(text) {
                Some(path) if paths.contains(&path) => {
                    self.problem(&format!("{key}[{index}]"), format!("the field {text:?} is there already"));
                }
                Some(path) => paths.push(path),
                None => {
                    let message =
                        format!("{text:?} is no field, expected its name, such as \"user\" or \"user.id\"");
                    self.problem(&format!("{key}[{index}]"), message);
                }
            }
        }
        paths
    }
}

/// Names, outermost first; none may be empty.
pub(crate) fn path(text: &str) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '.' => names.push(String::new()),
            '\\' => names.last_mut()?.push(letters.next().filter(|next| ['.', '\\'].contains(next))?),
            letter => names.last_mut()?.push(letter),
        }
    }
    names.iter().all(|name| !name.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::path;
    use crate::Settings;

    const STREAM: &str = "source = { type = \"http\" }\noutputs = [{ type = \"http\", url = \"http://a.example/\" }]\n\
                          transforms = [{ plugin = \"p\" }]\n";

    #[test]
    fn operator_keeps_state_tenants_with_a_grant_and_streams_over_http_with_a_policy_that_has_it() {
        let read = |text: &str| Settings::from_toml(text, Path::new("wasmill.toml")).unwrap();
        let filed = |text: &str| read(text).streams[0].transforms[0].state_denied.clone();
        assert_eq!(filed(&format!("[streams.s]\n{STREAM}")), None);
        let tenant = |grants: &str| filed(&format!("{grants}[tenants.\"a\".streams.s]\n{STREAM}"));
        for without in [
            "",
            "[tenants.a.grants]\n",
            "[tenants.a.grants]\nstate = false\n",
            "[tenants.a.policy]\nstate = true\n",
        ] {
            assert_eq!(tenant(without).unwrap(), "[tenants.a.grants] has no \"state = true\"", "{without}");
        }
        assert_eq!(tenant("[tenants.a.grants]\nstate = true\n"), None);

        let definition = serde_json::json!({
            "source": { "type": "http" },
            "transforms": [{ "plugin": "p" }],
            "outputs": [{ "type": "http", "url": "http://a.example/" }],
        });
        let defined = |tenant: &str, policy: &str| {
            let settings = read(&format!("[{policy}]\nhttp = [\"a.example\"]\n"));
            settings.define(tenant, "s", &definition).unwrap().stream.transforms[0].state_denied.clone()
        };
        let has_none = |tenant: &str, table: &str| {
            let told = defined(tenant, table).unwrap();
            assert!(told.contains(&format!("[{table}], has no \"state = true\"")), "{told}");
        };
        has_none("default", "policy");
        has_none("a", "tenants.a.policy");
        for (tenant, table) in [("default", "policy"), ("a", "tenants.a.policy")] {
            assert_eq!(defined(tenant, &format!("{table}]\nstate = true\n#[")), None, "{table}");
        }
        // Grants are for streams of the file.
        let settings = read("[tenants.a.grants]\nstate = true\n[tenants.a.policy]\nhttp = [\"a.example\"]\n");
        assert!(settings.define("a", "s", &definition).unwrap().stream.transforms[0].state_denied.is_some());
    }

    #[test]
    fn path_splits_at_dots_that_are_not_part_of_a_name() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(path("user"), names(&["user"]));
        assert_eq!(path("user.id"), names(&["user", "id"]));
        assert_eq!(path(r"a\.b.c\\"), names(&["a.b", r"c\"]));
        for wrong in ["", ".", "a.", ".a", "a..b", r"a\", r"\n"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }
}
