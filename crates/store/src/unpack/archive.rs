//! Which format an archive has, and its reader.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::super::catalog::UnpackRules;
use super::decoder::decoder;
use super::unpack_tree::{UnpackError, UnpackLimits, UnpackTree};
use super::{deb, tarball, wheel};

/// What kind of archive a file's name says it is.
#[must_use]
pub fn kind_of(file_name: &str) -> &'static str {
    let lower = file_name.to_ascii_lowercase();
    for (ending, kind) in [
        (".tar.gz", "tar.gz"),
        (".tgz", "tar.gz"),
        (".tar.xz", "tar.xz"),
        (".txz", "tar.xz"),
        (".tar.zst", "tar.zst"),
        (".tar", "tar"),
        (".zip", "zip"),
        (".whl", "zip"),
        (".jar", "zip"),
        (".deb", "deb"),
    ] {
        if lower.ends_with(ending) {
            return kind;
        }
    }
    "raw"
}

/// Unpacks `archives` one after the other into the empty directory `into`.
///
/// # Errors
/// What was refused and why; `into` is then to be thrown away.
pub fn unpack(archives: &[(&Path, &str)], rules: &UnpackRules, raw_name: &str, into: &Path) -> Result<(), UnpackError> {
    let mut packed = 0;
    for (path, _) in archives {
        packed += std::fs::metadata(path).map_err(|error| UnpackError::io(path, &error))?.len();
    }
    let mut tree = UnpackTree::new(into, rules, UnpackLimits::for_packed(packed));
    for (path, name) in archives {
        let kind = rules.kind.as_deref().unwrap_or_else(|| kind_of(name));
        let file = File::open(path).map_err(|error| UnpackError::io(path, &error))?;
        one(file, kind, raw_name, &mut tree).map_err(|refused| refused.within(name))?;
    }
    tree.finish()
}

fn one(file: File, kind: &str, raw_name: &str, tree: &mut UnpackTree<'_>) -> Result<(), UnpackError> {
    match kind {
        "zip" => wheel::read(file, tree),
        "deb" => deb::read(BufReader::new(file), tree),
        "raw" => tree.whole_file(raw_name, &mut BufReader::new(file)),
        tar => tarball::read(decoder(BufReader::new(file), tar.strip_prefix("tar").unwrap_or(tar))?, tree),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_from_names() {
        for (name, kind) in
            [("a.TGZ", "tar.gz"), ("b-1.2.tar.xz", "tar.xz"), ("c.whl", "zip"), ("d.deb", "deb"), ("minio", "raw")]
        {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }
}
