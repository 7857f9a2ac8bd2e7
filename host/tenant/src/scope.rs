//! What a key may do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Push records to the tenant's streams.
    Push,
    /// See the tenant's streams, plugins, dead letters and records.
    Read,
    /// Change which versions of the tenant's plugins are live.
    Plugins,
    /// Everything within the tenant, its keys and its audit log too.
    Admin,
    /// Everything on the host: makes tenants, and acts for any of them.
    Operator,
}

impl Scope {
    pub const ALL: [Scope; 5] = [Scope::Push, Scope::Read, Scope::Plugins, Scope::Admin, Scope::Operator];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Push => "push",
            Scope::Read => "read",
            Scope::Plugins => "plugins",
            Scope::Admin => "admin",
            Scope::Operator => "operator",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadScope {
    found: String,
}

impl fmt::Display for BadScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nearest = Scope::ALL
            .into_iter()
            .map(|scope| (strsim::damerau_levenshtein(scope.as_str(), &self.found), scope))
            .min()
            .filter(|(distance, _)| *distance <= 2);
        match nearest {
            Some((_, scope)) => write!(f, "there is no scope {:?}; did you mean \"{scope}\"?", self.found),
            None => write!(
                f,
                "there is no scope {:?}, expected one of push, read, plugins, admin, operator",
                self.found
            ),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Scope, BadScope> {
        let found = Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| BadScope { found: text.chars().take(40).collect() })
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scopes {
    pub const NONE: Scopes = Scopes(0);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that were given, in order.
    pub fn given(self) -> Vec<Scope> {
        Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0).collect()
    }

    /// Whether what needs `scope` may be done: given itself, or within one that was.
    pub fn allow(self, scope: Scope) -> bool {
        let has = |scope: Scope| self.0 & scope.bit() != 0;
        match scope {
            Scope::Operator => has(Scope::Operator),
            Scope::Admin => has(Scope::Admin) || has(Scope::Operator),
            other => has(other) || has(Scope::Admin) || has(Scope::Operator),
        }
    }

    pub fn is_operator(self) -> bool {
        self.allow(Scope::Operator)
    }

    /// Whether one with these scopes may hand out `others`: nobody makes somebody mightier than himself.
    pub fn cover(self, others: Scopes) -> bool {
        others.given().into_iter().all(|scope| self.allow(scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        Scopes(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Scopes {
        scopes.into_iter().collect()
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Vec<Scope> {
        scopes.given()
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.given()).finish()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.given().into_iter().map(Scope::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_is_everything_within_a_tenant_and_operator_everything() {
        let of = |scopes: &[Scope]| scopes.iter().copied().collect::<Scopes>();
        let admin = of(&[Scope::Admin]);
        assert!(admin.allow(Scope::Push) && admin.allow(Scope::Plugins) && !admin.allow(Scope::Operator));
        assert!(Scope::ALL.into_iter().all(|scope| of(&[Scope::Operator]).allow(scope)));
        let push = of(&[Scope::Push]);
        assert!(push.allow(Scope::Push) && !push.allow(Scope::Read) && !push.allow(Scope::Admin));
        assert!(!Scopes::NONE.allow(Scope::Push));
        assert!(admin.cover(push) && !push.cover(admin) && !admin.cover(of(&[Scope::Operator])));
    }

    #[test]
    fn scope_that_is_none_names_the_nearest() {
        assert_eq!("read".parse(), Ok(Scope::Read));
        let near = "plugin".parse::<Scope>().unwrap_err().to_string();
        assert_eq!(near, "there is no scope \"plugin\"; did you mean \"plugins\"?");
        assert!("everything".parse::<Scope>().unwrap_err().to_string().contains("expected one of push"));
    }
}
