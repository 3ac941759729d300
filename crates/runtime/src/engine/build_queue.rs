//! Whose turn it is to run a `build`. Builds of one directory run one at a time, as a compiler or a package manager does not expect a
//! second one in its directory; and services of one `up --build` that would run the same command in the same directory, such as the
//! copies of a service, share one run of it. A build that waits holds nothing: dropping its future takes it out of the queue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use devrun_model::feed::{BUILDING, WAITING_TO_BUILD};
use devrun_model::{Failure, ServiceSpec};

/// The builds that have ended in one directory; locked while one runs there.
type Directory = Arc<tokio::sync::Mutex<Vec<EndedBuild>>>;

/// The builds of all directories.
#[derive(Clone, Default)]
pub(super) struct BuildQueue {
    directories: Arc<Mutex<BTreeMap<PathBuf, Directory>>>,
    /// Counts the requests.
    requests: Arc<AtomicU64>,
    /// Counts the starts that build.
    round: u64,
}

/// The wish of one service to be built.
pub(super) struct BuildRequest {
    directories: Arc<Mutex<BTreeMap<PathBuf, Directory>>>,
    requests: Arc<AtomicU64>,
    round: u64,
    number: u64,
}

struct EndedBuild {
    spec: Arc<ServiceSpec>,
    round: u64,
    /// Requests below this one were there before it ended.
    covers: u64,
    failure: Option<Failure>,
}

impl BuildQueue {
    /// An `up --build` was asked for: what earlier ones have built does not count, and is kept only where a build still runs or waits.
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        // A build that uses one has cloned it under this lock.
        directories.retain(|_, directory| Arc::strong_count(directory) > 1);
    }

    /// A request of the start in force.
    pub(super) fn request(&self) -> BuildRequest {
        BuildRequest {
            directories: Arc::clone(&self.directories),
            requests: Arc::clone(&self.requests),
            round: self.round,
            number: self.requests.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl BuildRequest {
    /// Runs `build` when its turn comes, unless another service has run the same. Returns what is worth saying.
    ///
    /// # Errors
    /// As the build that counts for this service.
    pub(super) async fn run(
        self,
        spec: &Arc<ServiceSpec>,
        say: impl Fn(&str),
        build: impl Future<Output = Result<Vec<String>, Failure>>,
    ) -> Result<Vec<String>, Failure> {
        // Two paths of one directory are one; one that cannot be resolved fails in the build itself.
        let path = tokio::fs::canonicalize(&spec.dir).await.unwrap_or_else(|_| spec.dir.clone());
        let directory = {
            let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(directories.entry(path).or_default())
        };
        let mut ended = match directory.try_lock() {
            Ok(ended) => ended,
            Err(_) => {
                say(WAITING_TO_BUILD);
                directory.lock().await
            }
        };
        ended.retain(|build| build.round == self.round);
        if let Some(same) = ended.iter().rev().find(|build| build.counts_for(&self) && build.spec.has_same_build(spec)) {
            return same.shared_with(spec);
        }
        say(BUILDING);
        let result = build.await;
        ended.push(EndedBuild {
            spec: Arc::clone(spec),
            round: self.round,
            covers: self.requests.load(Ordering::Relaxed),
            failure: result.as_ref().err().cloned(),
        });
        result
    }
}

impl EndedBuild {
    /// A success counts for the whole start, a failure for those that waited for it: a later one may try again.
    fn counts_for(&self, request: &BuildRequest) -> bool {
        self.failure.is_none() || request.number < self.covers
    }

    fn shared_with(&self, spec: &ServiceSpec) -> Result<Vec<String>, Failure> {
        let is_copy = self.spec.service == spec.service;
        let of = format!("the same command in the same directory as the build of {}", self.spec.service);
        match &self.failure {
            None if is_copy => Ok(Vec::new()),
            None => Ok(vec![format!("not built again: {of}")]),
            Some(failure) if is_copy => Err(failure.clone()),
            Some(failure) => Err(Failure { reason: format!("{} ({of})", failure.reason), ..failure.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{CommandLine, FailureKind, ServiceName};
    use tokio::sync::oneshot;

    fn spec(name: &str, command: &str) -> Arc<ServiceSpec> {
        let build = CommandLine { argv: vec![command.to_owned()], env: BTreeMap::new() };
        let bare = ServiceSpec::bare(ServiceName::new(name).unwrap(), "/".into(), vec!["true".to_owned()]);
        Arc::new(ServiceSpec { build: Some(build), ..bare })
    }

    /// What a build that must not run would do.
    async fn never() -> Result<Vec<String>, Failure> {
        panic!("it runs")
    }

    fn quiet(_text: &str) {}

    #[tokio::test]
    async fn the_same_build_runs_once_a_start() {
        let mut queue = BuildQueue::default();
        queue.begin_round();
        let (a, b, other) = (spec("a", "make"), spec("b", "make"), spec("other", "make other"));
        queue.request().run(&a, quiet, async { Ok(Vec::new()) }).await.unwrap();
        let notes = queue.request().run(&b, quiet, never()).await.unwrap();
        assert_eq!(notes, ["not built again: the same command in the same directory as the build of a"]);
        assert_eq!(queue.request().run(&a, quiet, never()).await.unwrap(), Vec::<String>::new());
        let ran = |text: &'static str| async move { Ok(vec![text.to_owned()]) };
        assert_eq!(queue.request().run(&other, quiet, ran("another command")).await.unwrap(), ["another command"]);
        queue.begin_round();
        assert_eq!(queue.request().run(&b, quiet, ran("another start")).await.unwrap(), ["another start"]);
    }

    #[tokio::test]
    async fn another_start_keeps_nothing_of_what_has_ended() {
        let mut queue = BuildQueue::default();
        let of = |name: &str, dir: &str| Arc::new(ServiceSpec { dir: dir.into(), ..ServiceSpec::clone(&spec(name, "make")) });
        let (a, b) = (of("a", "/"), of("b", "/tmp"));
        queue.request().run(&a, quiet, async { Ok(Vec::new()) }).await.unwrap();
        let (begun, has_begun) = oneshot::channel();
        let request = queue.request();
        let running = tokio::spawn({
            let b = Arc::clone(&b);
            async move {
                let build = async {
                    let _sent = begun.send(());
                    std::future::pending().await
                };
                request.run(&b, quiet, build).await
            }
        });
        has_begun.await.unwrap();
        queue.begin_round();
        assert_eq!(Arc::strong_count(&a), 1, "a build that has ended is forgotten");
        let kept: Vec<PathBuf> = queue.directories.lock().unwrap().keys().cloned().collect();
        assert_eq!(kept, [std::fs::canonicalize("/tmp").unwrap()], "one that runs keeps others out of its directory");
        running.abort();
    }

    #[tokio::test]
    async fn a_failure_counts_for_those_that_waited_for_it() {
        let queue = BuildQueue::default();
        let (a, b) = (spec("a", "make"), spec("b", "make"));
        let (first, waiting) = (queue.request(), queue.request());
        let failure = || Failure::new(FailureKind::Service, "build failed: exit 1");
        first.run(&a, quiet, async { Err(failure()) }).await.unwrap_err();
        let shared = waiting.run(&b, quiet, never()).await.unwrap_err();
        assert!(shared.reason.starts_with("build failed: exit 1 (the same command"), "{}", shared.reason);
        queue.request().run(&b, quiet, async { Ok(Vec::new()) }).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_is_cancelled_makes_room() {
        let queue = BuildQueue::default();
        let (a, b) = (spec("a", "make"), spec("b", "make"));
        let (begun, has_begun) = oneshot::channel();
        let request = queue.request();
        let running = tokio::spawn(async move {
            let build = async {
                let _sent = begun.send(());
                std::future::pending().await
            };
            request.run(&a, quiet, build).await
        });
        has_begun.await.unwrap();
        let (told, is_told) = oneshot::channel();
        let told = Mutex::new(Some(told));
        let request = queue.request();
        let waiting = tokio::spawn(async move {
            let say = |text: &str| {
                if text == WAITING_TO_BUILD
                    && let Some(told) = told.lock().unwrap().take()
                {
                    let _sent = told.send(());
                }
            };
            request.run(&b, say, async { Ok(vec!["built".to_owned()]) }).await
        });
        is_told.await.unwrap();
        running.abort();
        assert_eq!(waiting.await.unwrap().unwrap(), ["built"]);
    }
}
