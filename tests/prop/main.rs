//! The core in a simulated world: random projects, random requests, and a world that answers late, twice, out of order or
//! never. Each promise of the core is a named function over what happened; a failing case shrinks to a short trace.
//!
//! The world keeps its own books of what is alive, from the actions alone, so that the core's word is checked against
//! something that is not the core.
#![expect(unreachable_pub, reason = "a test binary exports nothing: `pub` says that other files use it")]

mod invariants;
mod on_demand;
mod project;
mod world;

use proptest::prelude::*;

use project::{Project, projects};
use world::{Record, run};

fn check(project: &Project) -> Result<(), TestCaseError> {
    let record = run(project);
    for (name, invariant) in invariants::ALL {
        if let Err(what) = invariant(&record) {
            return Err(TestCaseError::fail(format!("{name}: {what}\n{}", record.text())));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), max_shrink_iters: 1000, ..ProptestConfig::default() })]

    /// All invariants, in every world.
    #[test]
    fn the_promises_of_the_core_hold(project in projects()) {
        check(&project)?;
    }

    /// Same seed, same trace.
    #[test]
    fn the_same_events_give_the_same_trace(project in projects()) {
        let (one, two): (Record, Record) = (run(&project), run(&project));
        prop_assert_eq!(one.text(), two.text());
    }
}
