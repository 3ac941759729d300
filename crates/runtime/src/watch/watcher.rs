//! A watcher: globs in, reports out, until it is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use globset::GlobSetBuilder;

use super::folders::WatchedFolders;
use super::report::{WatchMessage, WatchReport};
use super::thread::WatchThread;
use crate::file_glob::{absolute, add, base};
use devrun_model::{Failure, FailureKind, ServiceId};

/// One service and what it watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFiles {
    /// Whom to restart.
    pub id: ServiceId,
    /// Globs, relative to the procfile's directory.
    pub globs: Vec<String>,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct FileWatcher {
    subjects: Vec<WatchedFiles>,
    notes: Vec<(ServiceId, String)>,
    sender: mpsc::Sender<WatchMessage>,
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        // Its thread may be gone already.
        let _gone = self.sender.send(WatchMessage::End);
    }
}

impl FileWatcher {
    /// Begins. `own` are directories that never count; `report` gets what happens, with files relative to `root`.
    ///
    /// # Errors
    /// `Config` when a glob is none, `Service` when files can neither be watched nor polled.
    pub fn start(
        root: &Path,
        subjects: Vec<WatchedFiles>,
        own: Vec<PathBuf>,
        report: impl Fn(WatchReport) + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut sets = Vec::new();
        let mut bases = BTreeMap::new();
        for subject in &subjects {
            let mut set = GlobSetBuilder::new();
            for glob in &subject.globs {
                let full = absolute(root, glob);
                add(&mut set, &full).map_err(|error| bad(subject, glob, &error))?;
                bases.entry(base(&full)).or_insert_with(|| (subject.id.clone(), glob.clone()));
            }
            let set = set.build().map_err(|error| bad(subject, &subject.globs.join(" "), &error))?;
            sets.push((subject.id.clone(), set));
        }
        let (sender, news) = mpsc::channel();
        let absent = bases.iter().filter(|(base, _)| !base.exists());
        let mut notes: Vec<(ServiceId, String)> =
            absent.map(|(_, (id, glob))| (id.clone(), format!("watch: there is nothing yet that {glob:?} could mean"))).collect();
        let bases = bases.into_keys().collect();
        let mut folders = WatchedFolders::new(root.to_path_buf(), own, bases, &sender)?;
        folders.look();
        if let Some(reason) = folders.polls_because.take()
            && let Some(first) = subjects.first()
        {
            notes.push((first.id.clone(), reason));
        }
        let stamps = folders.watcher.is_none().then(|| folders.stamps());
        let looker = WatchThread { root: root.to_path_buf(), sets, folders, stamps };
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || looker.run(&news, report))
            .map_err(|error| Failure::new(FailureKind::Service, format!("no thread could be made: {error}")))?;
        Ok(Self { subjects, notes, sender })
    }

    /// What it was started with.
    #[must_use]
    pub fn subjects(&self) -> &[WatchedFiles] {
        &self.subjects
    }

    /// What is worth saying about the globs.
    #[must_use]
    pub fn notes(&self) -> &[(ServiceId, String)] {
        &self.notes
    }
}

fn bad(subject: &WatchedFiles, glob: &str, error: &globset::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("invalid glob {glob:?} in services.{}.watch: {}", subject.id, error.kind()))
        .help("write for instance watch = [\"src/**/*.py\"]")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::thread::SETTLE_FOR;
    use super::*;
    use devrun_model::ServiceName;

    #[test]
    fn changes_are_told_once_and_only_where_they_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["src/deep", "node_modules/x", ".devrun"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let id = |name: &str| ServiceId::single(&ServiceName::new(name).unwrap());
        let (sender, reported) = mpsc::channel();
        let subjects = vec![
            WatchedFiles { id: id("py"), globs: vec!["src/**/*.py".to_owned()] },
            WatchedFiles { id: id("all"), globs: vec!["**".to_owned()] },
        ];
        let watcher = FileWatcher::start(&root, subjects, vec![root.join(".devrun")], move |report| match report {
            WatchReport::Changed(id, path) => sender.send((id.to_string(), path)).unwrap(),
            WatchReport::Note(_, text) => panic!("{text}"),
        })
        .unwrap();
        for path in ["node_modules/x/a.py", ".devrun/b.py", "src/c.py~", "src/__pycache__/c.pyc"] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        for round in 0..5 {
            std::fs::write(root.join("src/deep/x.py"), round.to_string()).unwrap();
        }
        let mut seen: Vec<(String, String)> = Vec::new();
        while seen.len() < 2 {
            seen.push(reported.recv_timeout(Duration::from_secs(20)).unwrap());
        }
        seen.sort();
        assert_eq!(seen, [("all".to_owned(), "src/deep/x.py".to_owned()), ("py".to_owned(), "src/deep/x.py".to_owned())]);
        // A directory that comes later, with a file in it.
        std::fs::create_dir_all(root.join("src/new/er")).unwrap();
        std::fs::write(root.join("src/new/er/y.py"), "x").unwrap();
        let (mut py, mut all) = (false, false);
        while !(py && all) {
            let (id, _) = reported.recv_timeout(Duration::from_secs(20)).unwrap();
            py |= id == "py";
            all |= id == "all";
        }
        drop(watcher);
    }

    /// A watcher of one service, its reports, and whether files are polled.
    fn watch(root: &Path, globs: &[&str], polls: bool) -> (mpsc::Receiver<WatchReport>, mpsc::Sender<WatchMessage>) {
        let id = ServiceId::single(&ServiceName::new("a").unwrap());
        let mut set = GlobSetBuilder::new();
        let mut bases = BTreeSet::new();
        for glob in globs {
            let full = absolute(root, glob);
            add(&mut set, &full).unwrap();
            bases.insert(base(&full));
        }
        let (sender, news) = mpsc::channel();
        let mut folders = WatchedFolders::new(root.to_path_buf(), Vec::new(), bases, &sender).unwrap();
        if polls {
            folders.poll_from_now_on(&notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        }
        folders.look();
        let stamps = polls.then(|| folders.stamps());
        let looker = WatchThread { root: root.to_path_buf(), sets: vec![(id, set.build().unwrap())], folders, stamps };
        let (reports, reported) = mpsc::channel();
        std::thread::spawn(move || looker.run(&news, move |report| drop(reports.send(report))));
        (reported, sender)
    }

    fn next_change(reported: &mpsc::Receiver<WatchReport>) -> String {
        match reported.recv_timeout(Duration::from_secs(20)).unwrap() {
            WatchReport::Changed(_, path) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_removed_or_moved_away_and_made_again_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["dist/deep", "conf/sub"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("conf/sub/app.conf"), "1").unwrap();
        let (reported, end) = watch(&root, &["dist", "conf/sub/app.conf", "later/*.txt"], false);
        let quiet = || while reported.recv_timeout(SETTLE_FOR * 4).is_ok() {};
        for round in 0..3 {
            if round == 1 {
                std::fs::rename(root.join("dist"), root.join("dist.old")).unwrap();
            } else {
                std::fs::remove_dir_all(root.join("dist")).unwrap();
            }
            std::fs::create_dir_all(root.join("dist/deep")).unwrap();
            std::fs::write(root.join("dist/deep/new"), "1").unwrap();
            assert!(next_change(&reported).starts_with("dist"), "{round}");
            quiet();
            std::fs::write(root.join("dist/deep/new"), "2").unwrap();
            assert_eq!(next_change(&reported), "dist/deep/new", "{round}");
            quiet();
        }
        // What was moved away is no longer meant.
        std::fs::write(root.join("dist.old/deep/new"), "3").unwrap();
        assert!(reported.recv_timeout(SETTLE_FOR * 4).is_err());
        std::fs::remove_dir_all(root.join("conf")).unwrap();
        assert_eq!(next_change(&reported), "conf/sub/app.conf");
        std::fs::create_dir_all(root.join("conf/sub")).unwrap();
        quiet();
        std::fs::write(root.join("conf/sub/app.conf"), "2").unwrap();
        assert_eq!(next_change(&reported), "conf/sub/app.conf");
        std::fs::create_dir(root.join("later")).unwrap();
        quiet();
        std::fs::write(root.join("later/a.txt"), "1").unwrap();
        assert_eq!(next_change(&reported), "later/a.txt");
        end.send(WatchMessage::End).unwrap();
    }

    #[test]
    fn files_are_polled_where_no_watches_are_left_and_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("src/node_modules")).unwrap();
        std::fs::write(root.join("src/a"), "1").unwrap();
        let (reported, end) = watch(&root, &["src"], true);
        assert!(matches!(
            reported.recv_timeout(Duration::from_secs(20)).unwrap(),
            WatchReport::Note(_, text) if text.contains("polled every 1s") && text.contains("max_user_watches")
        ));
        std::fs::write(root.join("src/node_modules/x"), "1").unwrap();
        std::fs::write(root.join("src/a"), "22").unwrap();
        assert_eq!(next_change(&reported), "src/a");
        std::fs::create_dir(root.join("src/new")).unwrap();
        std::fs::write(root.join("src/new/b"), "1").unwrap();
        assert_eq!(next_change(&reported), "src/new/b");
        std::fs::remove_dir_all(root.join("src/new")).unwrap();
        assert_eq!(next_change(&reported), "src/new/b");
        end.send(WatchMessage::End).unwrap();
    }
}
