//! Validated names. A name that exists has been checked, so no path, socket or log file is ever made from raw input.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a string is no name. The text is a lowercase fragment fit for a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

fn check(kind: &str, text: &str, upper: bool) -> Result<(), BadName> {
    let first_ok =
        text.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || (upper && c.is_ascii_uppercase()));
    if text.is_empty() {
        return Err(BadName(format!("a {kind} name cannot be empty")));
    }
    if !first_ok {
        return Err(BadName(format!(
            "a {kind} name starts with a letter or a digit, not {:?}",
            text.chars().next().unwrap_or(' ')
        )));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_' || *c == '-' || (upper && c.is_ascii_uppercase())))
    {
        return Err(BadName(format!("{bad:?} cannot stand in a {kind} name")));
    }
    if text.len() > 63 {
        return Err(BadName(format!("a {kind} name has at most 63 characters")));
    }
    Ok(())
}

macro_rules! name {
    ($type:ident, $kind:literal, $upper:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text.
            ///
            /// # Errors
            /// When the text is empty, too long, or holds a character that a name cannot.
            pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
                let text = text.into();
                check($kind, &text, $upper)?;
                Ok(Self(text))
            }
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(ProjectName, "project", false, "The project's name: `[a-z0-9][a-z0-9_-]*`.");
name!(ServiceName, "service", true, "A service's or task's name as the procfile writes it: letters, digits, `_`, `-`.");
name!(VolumeName, "volume", true, "A volume's name: letters, digits, `_`, `-`.");

/// What `ps` calls one copy of a service: `api`, or `worker.2` where there are several replicas.
///
/// The dot cannot stand in a `ServiceName`, so the two never collide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceId(Arc<str>);

impl ServiceId {
    /// The id of the only copy of a service, or of a task.
    #[must_use]
    pub fn single(name: &ServiceName) -> Self {
        Self(name.as_str().into())
    }
    /// The id of copy `index` (from 1) of `of` copies.
    #[must_use]
    pub fn replica(name: &ServiceName, index: u32, of: u32) -> Self {
        if of <= 1 { Self::single(name) } else { Self(format!("{name}.{index}").into()) }
    }
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// What the log of a further file of this service is called: `service/name`. No service can have that name; what could
    /// leave a folder or a line is replaced.
    #[must_use]
    pub fn further(&self, file: &str) -> Self {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let mut name: String = file.chars().take(100).map(|c| if good(c) { c } else { '_' }).collect();
        if name.is_empty() || name.starts_with('.') {
            name.insert(0, '_');
        }
        Self(format!("{}/{name}", self.0).into())
    }
    /// Reads an id back from a journal or a wire message; unlike a name it may hold one dot before the index.
    ///
    /// # Errors
    /// When the part before the dot is no service name or the part after it is no number from 1.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        match text.split_once('.') {
            None => ServiceName::new(text).map(|name| Self::single(&name)),
            Some((name, index)) => {
                let name = ServiceName::new(name)?;
                match index.parse::<u32>() {
                    Ok(index) if index > 0 => Ok(Self(format!("{name}.{index}").into())),
                    _ => Err(BadName(format!("invalid replica number {index:?}"))),
                }
            }
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_could_leave_a_folder_or_a_line() {
        for bad in ["", "a/b", "a b", ".x", "-x", "a\n", "a.b", "ä", "a\0", &"x".repeat(64)] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?} was taken");
        }
        for good in ["a", "A1", "neo4j-setup", "a_b", "9p"] {
            assert!(ServiceName::new(good).is_ok(), "{good:?} was refused");
        }
        assert!(ProjectName::new("Shop").is_err());
    }

    #[test]
    fn ids_name_the_replica_only_when_there_are_several() {
        let name = ServiceName::new("worker").unwrap();
        assert_eq!(ServiceId::replica(&name, 1, 1).as_str(), "worker");
        assert_eq!(ServiceId::replica(&name, 2, 4).as_str(), "worker.2");
        assert!(ServiceId::parse("worker.0").is_err());
        assert!(ServiceId::parse("../x").is_err());
        assert_eq!(ServiceId::single(&name).further("../x y").as_str(), "worker/_.._x_y");
    }
}
