//! The work whose instructions `scripts/instructions` counts: `core N` takes a chain of N probed services up and down again
//! through the pure core, `flat N` as many that wait for nobody; `pump N` takes N pieces of 64 KiB of log lines into a file.
//! The same words do the same work, so the count does not depend on how busy the machine is. `core 0` and `pump 0` are what
//! everything around it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use devrun_core::{Action, Event, Supervisor, Tick};
use devrun_keeper::runner::OutputStream;
use devrun_logs::LogPump;
use devrun_model::keeper::ExitStatus;
use devrun_model::service::LogSpec;
use devrun_model::{
    Check, Command, Condition, Dependency, Plan, ProjectName, ReadySpec, ServiceId, ServiceName, ServiceSpec, UpOptions,
};

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // Two edges each, so that a step that looks at every edge of every service is seen.
        ["core", count] => core(count.parse()?, &[1, 7]),
        ["flat", count] => core(count.parse()?, &[]),
        ["pump", count] => pump(count.parse()?),
        _ => Err("core N | flat N | pump N".into()),
    }
}

fn core(count: usize, edges: &[usize]) -> Result<(), Anything> {
    let mut services = BTreeMap::new();
    for number in 0..count {
        let name = ServiceName::new(format!("s{number:04}"))?;
        let mut spec = ServiceSpec::bare(name, "/".into(), vec!["true".to_owned()]);
        spec.ready = Some(ReadySpec::new(vec![Check::Notify]));
        for back in edges.iter().copied().filter(|back| *back <= number) {
            let on = ServiceId::single(&ServiceName::new(format!("s{:04}", number - back))?);
            spec.depends_on.push(Dependency { on, condition: Condition::Healthy, required: true, restart: false });
        }
        services.insert(spec.id.clone(), Arc::new(spec));
    }
    let plan = Plan {
        project: ProjectName::new("bench")?,
        root: "/".into(),
        instance: String::new(),
        mode: None,
        timeout: Duration::from_secs(600),
        tier_pause: Duration::ZERO,
        tiers: BTreeMap::new(),
        services,
        inactive: BTreeMap::new(),
        volumes: BTreeMap::new(),
        queries: BTreeMap::new(),
        masks: BTreeSet::new(),
        derived: BTreeSet::new(),
        seed: 1,
    };
    let mut core = Supervisor::new(Arc::new(plan), BTreeSet::new());
    let mut events = vec![Event::Command(Command::Up { plan: None, targets: Vec::new(), options: UpOptions::default() })];
    let (mut steps, mut ready) = (0_u64, 0);
    let mut actions = Vec::new();
    loop {
        let Some(event) = events.pop() else {
            if ready == count && ready > 0 {
                ready = 0;
                events.push(Event::Interrupted);
                continue;
            }
            break;
        };
        steps += 1;
        core.step(Tick(Duration::from_millis(steps)), event, &mut actions);
        // The world that answers at once, and well.
        for action in actions.drain(..) {
            match action {
                Action::Fetch(id, generation) => events.push(Event::Fetched(id, generation)),
                Action::RunInit(id, generation) => events.push(Event::InitDone(id, generation)),
                Action::Spawn(id, generation) => events.push(Event::Spawned(id, generation, Some(4242))),
                Action::StartProbes(id, generation) => {
                    ready += 1;
                    events.push(Event::ProbePassed(id, generation, None));
                }
                Action::StopTree(id, generation) => {
                    events.push(Event::TreeEmpty(id.clone(), generation));
                    events.push(Event::Exited(id, generation, ExitStatus::Code(0), None));
                }
                _ => {}
            }
        }
    }
    if steps < 6 * count as u64 {
        return Err(format!("only {steps} steps for {count} services: the world above does not answer any more").into());
    }
    Ok(())
}

fn pump(pieces: usize) -> Result<(), Anything> {
    let folder = std::env::temp_dir().join(format!("devrun-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let id = ServiceId::single(&ServiceName::new("writer")?);
    let spec = LogSpec::default();
    let pump = LogPump::start(folder.clone())?;
    let mut piece = Vec::new();
    while piece.len() < 64 * 1024 {
        piece.extend([b'x'; 99]);
        piece.push(b'\n');
    }
    let sink = pump.sink(&id, &spec);
    for _ in 0..pieces {
        sink.write(OutputStream::Stdout, &piece);
    }
    tokio::runtime::Builder::new_current_thread().build()?.block_on(pump.drain(&id));
    let written = std::fs::read_dir(&folder)?.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>();
    std::fs::remove_dir_all(&folder)?;
    if written < (pieces * piece.len()) as u64 {
        return Err(format!("{written} bytes of {} are in the log", pieces * piece.len()).into());
    }
    Ok(())
}
