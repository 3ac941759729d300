//! Volumes that hold a server's data in memory, and volumes that a web server shares with the program that fills them.
//!
//! nginx and Caddy serve from a volume what another container writes there. Natively that program writes below its project, where a
//! directory of it is mounted around the volume; the web server's configuration is given that path. Where the path exists in
//! the container alone, the report says so: the configuration would serve nothing.

use std::cmp::Reverse;
use std::path::PathBuf;

use super::super::report::At;
use super::super::toml_writer::{Section, Toml};
use super::super::yaml::YamlNode;
use super::draft::{Draft, NativeKind, local};
use super::importer::Importer;
use super::syntax::Mount;

fn is_web_server(draft: &Draft) -> bool {
    matches!(&draft.kind, NativeKind::Recipe { known, .. } if matches!(known.recipe, "nginx" | "caddy"))
}

impl Importer<'_> {
    /// The volumes with a name of a service: name and directory in the container.
    fn named_mounts(&self, draft: &Draft) -> Vec<(String, String)> {
        let items = draft.get("volumes").and_then(YamlNode::list).unwrap_or_default();
        let mounts = items.iter().filter_map(|item| self.mount(item)).filter(|mount| !mount.bind && !mount.tmpfs);
        mounts.filter_map(|mount| Some((mount.source?, mount.target.trim_end_matches('/').to_owned()))).collect()
    }

    /// Adds to the directories of each web server those volumes that another service fills below a directory of the project.
    pub(super) fn share_volumes(&self, drafts: &mut [Draft]) {
        let filled: Vec<(String, PathBuf)> = drafts
            .iter()
            .filter(|draft| !is_web_server(draft))
            .flat_map(|draft| {
                let here = move |(name, target): (String, String)| Some((name, local(&target, &draft.mounts)?));
                self.named_mounts(draft).into_iter().filter_map(here)
            })
            .collect();
        for draft in drafts.iter_mut().filter(|draft| is_web_server(draft)) {
            for (name, target) in self.named_mounts(draft) {
                if let Some((_, here)) = filled.iter().find(|(known, _)| *known == name) {
                    draft.mounts.push((target, here.clone()));
                }
            }
            draft.mounts.sort_by_key(|(target, _)| Reverse(target.len()));
        }
    }

    /// A volume of a web server from which its configuration serves.
    pub(super) fn served_volume(&mut self, draft: &Draft, mount: &Mount, at: At, section: &Section) -> bool {
        let target = mount.target.trim_end_matches('/');
        if !is_web_server(draft) || mount.bind {
            return false;
        }
        let what = draft.what("volumes");
        let name = mount.source.as_deref().unwrap_or_default();
        let shared = draft.mounts.iter().find(|(known, _)| known == target).map(|(_, here)| self.shown(here));
        if let Some(here) = shared {
            self.report.mapped(
                at,
                what,
                format!("{name}: {target} is {here} in its configuration, where another service fills it"),
            );
            return true;
        }
        let files = section.keys.iter().filter(|(key, _)| key == "files");
        if files.into_iter().any(|(_, value)| value.line().contains(target)) {
            let text = format!(
                "{name}: its configuration serves {target}, a path of the container: put the directory that the files have here into `files`"
            );
            self.report.not_mapped(at, what, text);
            return true;
        }
        false
    }

    /// A server whose data are in memory: they end with the run. Other directories in memory are programs' own.
    pub(super) fn data_in_memory(&mut self, draft: &Draft, target: &str, key: &str, at: At, section: &mut Section) -> bool {
        let target = target.trim_end_matches('/');
        let NativeKind::Recipe { known, .. } = &draft.kind else { return false };
        if !known.data.contains(&target) {
            return false;
        }
        let name = format!("{}-tmpfs", draft.name);
        let text = format!("{target} → data = \"{name}\", a scratch volume: it is deleted when the stack stops");
        self.report.mapped(at, draft.what(key), text);
        self.out.volumes.set(&name, Toml::Table(vec![("class".to_owned(), Toml::text("scratch"))]));
        section.set("data", Toml::text(name));
        true
    }
}
