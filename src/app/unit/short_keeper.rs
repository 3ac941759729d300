//! A keeper for the commands of one unit's helper: it ends with the helper, and its journal is its own, as several helpers run
//! at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use devrun_keeper::{KeeperHandle, KeeperOptions, OutputSink, OutputStream, Runner, own_program};
use devrun_model::keeper::{Identity, KeeperHello};
use devrun_model::{Failure, ServiceSpec};
use devrun_runtime::runtime_dir;

use super::unit_advice::unwritable;
use super::unit_plan::UnitPlan;

/// Output of commands goes to the unit's own, which the journal has.
struct StandardOutput;

impl OutputSink for StandardOutput {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        use std::io::Write as _;
        // A journal that is gone takes nothing, and nothing waits for it.
        let _gone = match stream {
            OutputStream::Stdout => std::io::stdout().write_all(bytes),
            OutputStream::Stderr => std::io::stderr().write_all(bytes),
        };
    }
}

/// Runs `work` with a keeper of its own.
///
/// # Errors
/// `Internal` when no keeper can be had, and as `work`.
pub(super) async fn with_keeper<T>(
    made: &UnitPlan,
    spec: &ServiceSpec,
    is_quiet: bool,
    work: impl AsyncFnOnce(Runner) -> Result<T, Failure>,
) -> Result<T, Failure> {
    runtime_dir::ensure_run(&made.places)?;
    let dir = made.places.run.join(format!("unit-{}-{}", spec.id, std::process::id()));
    runtime_dir::empty(&dir).map_err(|error| unwritable(&dir, &error))?;
    let hello = KeeperHello {
        run: made.run.clone(),
        project: made.plan.project.to_string(),
        root: made.plan.root.clone(),
        journal: dir.join("journal"),
        // The unit's own cgroup has all of it.
        cgroup: false,
        supervisor: Identity { pid: 0, start: 0, boot: String::new() },
        inherited: Vec::new(),
    };
    let (keeper, _events) =
        KeeperHandle::start(KeeperOptions { program: own_program::path(), hello, owns_children: true }).await?;
    let runner = Runner {
        keeper: keeper.clone(),
        places: made.places.clone(),
        prepare: runtime_dir::ensure_run,
        service: spec.id.clone(),
        generation: 1,
        marks: BTreeMap::from([("DEVRUN_RUN_ID".to_owned(), made.run.clone())]),
        sink: (!is_quiet).then(|| Arc::new(StandardOutput) as Arc<dyn OutputSink>),
    };
    let result = work(runner).await;
    keeper.finish().await;
    // Only a journal of what has ended is in it.
    let _stays = std::fs::remove_dir_all(&dir);
    result
}
