//! The copies of the services behind the gateway, and which of them gets a request: of those that are ready, the one with the
//! fewest requests in flight. Whether a copy is ready is told by whoever watches the stack.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Between two looks whether a copy that is drained is idle.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Whether a copy can take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// It takes requests.
    Ready,
    /// It runs and its probe fails: it is asked only where no copy is ready.
    Unhealthy,
    /// It will take requests soon: they wait.
    Starting,
    /// It will not come up by itself.
    Down,
}

/// One copy of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `api`, `api.2`.
    pub name: String,
    /// Its process.
    pub pid: Option<i32>,
    /// The host that is connected to.
    pub host: String,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Whether it can take requests.
    pub availability: Availability,
    /// Its state, in one word for people.
    pub state: String,
    /// Why it is in this state.
    pub reason: Option<String>,
}

#[derive(Debug, Default)]
struct KnownServices {
    /// Absent until somebody has said something.
    services: Option<BTreeMap<String, Vec<KnownCopy>>>,
}

/// A copy, and what a request for it needs, made once.
#[derive(Debug)]
struct KnownCopy {
    upstream: Upstream,
    /// By the names of its ports.
    addresses: BTreeMap<String, Arc<CopyAddress>>,
}

/// Where one port of a copy is reached.
#[derive(Debug)]
pub(crate) struct CopyAddress {
    /// The copy.
    pub name: String,
    /// `127.0.0.1:8000`.
    pub authority: Arc<str>,
    in_flight: Arc<InFlight>,
}

/// All copies of all services.
#[derive(Debug)]
pub struct Upstreams {
    known: watch::Sender<KnownServices>,
    in_flight: Mutex<HashMap<Arc<str>, Arc<InFlight>>>,
    /// Processes that are about to be stopped, by copy.
    draining: Mutex<BTreeMap<String, Option<i32>>>,
    /// Of equally busy copies each gets its turn.
    turn: AtomicUsize,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::new()
    }
}

/// What is on its way to and from one address.
#[derive(Debug, Default)]
struct InFlight {
    /// For the choice of a copy.
    all: AtomicUsize,
    /// Those whose end can be waited for.
    finite: AtomicUsize,
}

/// One request on one copy; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The copy.
    pub address: Arc<CopyAddress>,
    is_finite: bool,
}

#[cfg(test)]
impl CopyAddress {
    pub(crate) fn new(name: &str, authority: &str) -> Self {
        Self { name: name.to_owned(), authority: authority.into(), in_flight: Arc::default() }
    }
}

impl Lease {
    /// A stream of events, a changed protocol: no one waits for its end.
    pub(crate) fn without_end(&mut self) {
        if std::mem::replace(&mut self.is_finite, false) {
            self.address.in_flight.finite.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.without_end();
        self.address.in_flight.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why no copy can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// A state of the supervisor.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
}

/// What becomes of a request for a service.
#[derive(Debug)]
pub(crate) enum Choice {
    /// This copy gets it.
    Use(Lease),
    /// A copy is starting.
    Wait(Unavailable),
    /// Every copy that is ready has been tried.
    Exhausted(Unavailable),
    /// No copy will be ready by itself.
    Down(Unavailable),
    /// There is no such service, or it has no such port.
    Unknown,
}

impl Upstreams {
    /// Nothing is known yet: requests wait.
    #[must_use]
    pub fn new() -> Self {
        Self {
            known: watch::Sender::new(KnownServices::default()),
            in_flight: Mutex::default(),
            draining: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// A copy is about to be stopped: it gets nothing more, until another process of it is there.
    pub fn drain(&self, name: &str, pid: Option<i32>) {
        self.draining().insert(name.to_owned(), pid);
        self.known.send_if_modified(|known| {
            let copies = known.services.iter_mut().flat_map(BTreeMap::values_mut).flatten().map(|copy| &mut copy.upstream);
            let mut changed = false;
            for copy in copies.filter(|copy| copy.name == name && copy.pid == pid) {
                changed |= copy.availability < Availability::Starting;
                copy.availability = copy.availability.max(Availability::Starting);
            }
            changed
        });
    }

    /// Returns when nothing that has an end is in flight on a copy.
    pub async fn idle(&self, name: &str) {
        loop {
            let is_idle = {
                let known = self.known.borrow();
                let copies = known.services.iter().flat_map(BTreeMap::values).flatten().filter(|copy| copy.upstream.name == name);
                let mut addresses = copies.flat_map(|copy| copy.addresses.values());
                addresses.all(|address| address.in_flight.finite.load(Ordering::Relaxed) == 0)
            };
            if is_idle {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn draining(&self) -> MutexGuard<'_, BTreeMap<String, Option<i32>>> {
        // A panic while it was held left it as it was.
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is known of all services in the place of what was known before.
    pub fn replace(&self, mut services: BTreeMap<String, Vec<Upstream>>) {
        // What is said may be older than the request to drain.
        let mut draining = self.draining();
        for copy in services.values_mut().flatten() {
            match draining.get(&copy.name) {
                Some(pid) if *pid == copy.pid => copy.availability = copy.availability.max(Availability::Starting),
                Some(_) if copy.pid.is_some() => _ = draining.remove(&copy.name),
                _ => {}
            }
        }
        drop(draining);
        self.known.send_if_modified(|known| {
            if known.services.as_ref().is_some_and(|known| is_same(known, &services)) {
                return false;
            }
            let all = services.into_iter();
            known.services =
                Some(all.map(|(name, copies)| (name, copies.into_iter().map(|copy| self.known_copy(copy)).collect())).collect());
            true
        });
    }

    fn known_copy(&self, upstream: Upstream) -> KnownCopy {
        let address = |port: u16| {
            let authority: Arc<str> = authority(&upstream.host, port).into();
            let in_flight = self.count_of(&authority);
            Arc::new(CopyAddress { name: upstream.name.clone(), authority, in_flight })
        };
        KnownCopy { addresses: upstream.ports.iter().map(|(name, port)| (name.clone(), address(*port))).collect(), upstream }
    }

    /// Notices every [`Upstreams::replace`] from now on.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.known.subscribe())
    }

    /// Chooses a copy; `tried` are the authorities that did not answer this request.
    pub(crate) fn choose(&self, service: &str, port: &str, tried: &[Arc<str>]) -> Choice {
        let known = self.known.borrow();
        let Some(services) = &known.services else {
            return Choice::Wait(Unavailable { state: "unknown".to_owned(), reason: None });
        };
        let copies = || {
            let all = services.get(service).into_iter().flatten();
            all.filter_map(move |copy| copy.addresses.get(port).map(|address| (&copy.upstream, address)))
        };
        let Some(best) = copies().map(|(copy, _)| copy.availability).min() else { return Choice::Unknown };
        let described = |availability: Availability| {
            let copy = copies().find(|(copy, _)| copy.availability == availability).map(|(copy, _)| copy);
            Unavailable {
                state: copy.map(|copy| copy.state.clone()).unwrap_or_default(),
                reason: copy.and_then(|copy| copy.reason.clone()),
            }
        };
        match best {
            Availability::Starting => return Choice::Wait(described(best)),
            Availability::Down => return Choice::Down(described(best)),
            Availability::Ready | Availability::Unhealthy => {}
        }
        let candidates = || {
            let untried =
                copies().filter(move |(copy, address)| copy.availability == best && !tried.contains(&address.authority));
            untried.map(|(_, address)| address)
        };
        let first = match candidates().count() {
            0 | 1 => 0,
            count => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        let in_turn = candidates().skip(first).chain(candidates().take(first));
        let Some(address) = in_turn.min_by_key(|address| address.in_flight.all.load(Ordering::Relaxed)) else {
            return Choice::Exhausted(described(best));
        };
        address.in_flight.all.fetch_add(1, Ordering::Relaxed);
        address.in_flight.finite.fetch_add(1, Ordering::Relaxed);
        Choice::Use(Lease { address: Arc::clone(address), is_finite: true })
    }

    fn count_of(&self, authority: &Arc<str>) -> Arc<InFlight> {
        // A panic while it was held left it as it was.
        let mut counts = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get(authority) {
            return Arc::clone(count);
        }
        let count = Arc::<InFlight>::default();
        counts.insert(Arc::clone(authority), Arc::clone(&count));
        count
    }
}

/// Wakes when something has changed.
pub(crate) struct Changes(watch::Receiver<KnownServices>);

impl Changes {
    /// Returns at the next change; never, when nobody can change anything any more.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether `services` is what is known already.
fn is_same(known: &BTreeMap<String, Vec<KnownCopy>>, services: &BTreeMap<String, Vec<Upstream>>) -> bool {
    let known = known.iter().map(|(name, copies)| (name, copies.iter().map(|copy| &copy.upstream)));
    known.len() == services.len() && known.zip(services).all(|((name, copies), (now, new))| name == now && copies.eq(new))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{}]:{port}", host.trim_matches(['[', ']'])) } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(name: &str, port: u16, availability: Availability) -> Upstream {
        Upstream {
            name: name.to_owned(),
            pid: Some(1),
            host: "127.0.0.1".to_owned(),
            ports: BTreeMap::from([("main".to_owned(), port)]),
            availability,
            state: format!("{availability:?}"),
            reason: None,
        }
    }

    fn with(copies: Vec<Upstream>) -> Upstreams {
        let upstreams = Upstreams::new();
        upstreams.replace(BTreeMap::from([("api".to_owned(), copies)]));
        upstreams
    }

    #[track_caller]
    fn used(choice: Choice) -> Lease {
        match choice {
            Choice::Use(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_least_busy_of_the_ready_copies_is_chosen() {
        let upstreams = with(vec![
            copy("api.1", 1, Availability::Ready),
            copy("api.2", 2, Availability::Ready),
            copy("api.3", 3, Availability::Unhealthy),
            copy("api.4", 4, Availability::Starting),
        ]);
        let mut leases: Vec<Lease> = (0..10).map(|_| used(upstreams.choose("api", "main", &[]))).collect();
        let count = |leases: &[Lease], name: &str| leases.iter().filter(|lease| lease.address.name == name).count();
        assert_eq!((count(&leases, "api.1"), count(&leases, "api.2")), (5, 5));
        leases.retain(|lease| lease.address.name == "api.1");
        for _ in 0..5 {
            leases.push(used(upstreams.choose("api", "main", &[])));
        }
        assert_eq!((count(&leases, "api.1"), count(&leases, "api.2")), (5, 5), "the five that ended do not count");
    }

    #[test]
    fn idle_copies_take_turns() {
        let upstreams = with(vec![copy("api.1", 1, Availability::Ready), copy("api.2", 2, Availability::Ready)]);
        let names: std::collections::BTreeSet<String> =
            (0..4).map(|_| used(upstreams.choose("api", "main", &[])).address.name.clone()).collect();
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn a_copy_that_was_tried_is_not_chosen_again() {
        let upstreams = with(vec![copy("api.1", 1, Availability::Ready), copy("api.2", 2, Availability::Ready)]);
        let first = used(upstreams.choose("api", "main", &[]));
        let mut tried = vec![first.address.authority.clone()];
        let second = used(upstreams.choose("api", "main", &tried));
        assert_ne!(first.address.authority, second.address.authority);
        tried.push(second.address.authority.clone());
        assert!(matches!(upstreams.choose("api", "main", &tried), Choice::Exhausted(_)));
    }

    #[test]
    fn who_is_not_ready_waits_or_is_told() {
        assert!(matches!(Upstreams::new().choose("api", "main", &[]), Choice::Wait(_)), "nothing is known yet");
        let starting = with(vec![copy("api", 1, Availability::Starting)]);
        assert!(matches!(starting.choose("api", "main", &[]), Choice::Wait(_)));
        let down = with(vec![copy("api", 1, Availability::Down)]);
        assert!(matches!(down.choose("api", "main", &[]), Choice::Down(why) if why.state == "Down"));
        assert!(matches!(down.choose("web", "main", &[]), Choice::Unknown));
        assert!(matches!(down.choose("api", "admin", &[]), Choice::Unknown));
        let ill = with(vec![copy("api", 1, Availability::Unhealthy)]);
        assert_eq!(*used(ill.choose("api", "main", &[])).address.authority, *"127.0.0.1:1", "better than nothing");
    }

    #[tokio::test]
    async fn a_drained_copy_gets_nothing_more_until_another_process_of_it_is_there() {
        let both = || vec![copy("api.1", 1, Availability::Ready), copy("api.2", 2, Availability::Ready)];
        let upstreams = with(both());
        let (finite, mut endless) = (used(upstreams.choose("api", "main", &[])), used(upstreams.choose("api", "main", &[])));
        endless.without_end();
        upstreams.drain(&finite.address.name, Some(1));
        let other = |upstreams: &Upstreams| used(upstreams.choose("api", "main", &[])).address.name.clone();
        assert!((0..4).all(|_| other(&upstreams) == endless.address.name));
        // What was known before the request does not bring it back.
        upstreams.replace(BTreeMap::from([("api".to_owned(), both())]));
        assert!((0..4).all(|_| other(&upstreams) == endless.address.name));
        let name = finite.address.name.clone();
        assert!(tokio::time::timeout(Duration::from_millis(50), upstreams.idle(&name)).await.is_err(), "one is in flight");
        drop(finite);
        upstreams.idle(&name).await;
        upstreams.drain(&endless.address.name, Some(1));
        upstreams.idle(&endless.address.name).await;
        assert!(matches!(upstreams.choose("api", "main", &[]), Choice::Wait(_)), "both are being stopped");
        let mut next = both();
        next.iter_mut().for_each(|copy| copy.pid = Some(2));
        upstreams.replace(BTreeMap::from([("api".to_owned(), next)]));
        assert!(matches!(upstreams.choose("api", "main", &[]), Choice::Use(_)));
    }

    #[test]
    fn addresses_of_both_families() {
        assert_eq!(authority("127.0.0.1", 80), "127.0.0.1:80");
        assert_eq!(authority("::1", 80), "[::1]:80");
        assert_eq!(authority("[::1]", 80), "[::1]:80");
    }
}
