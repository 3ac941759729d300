//! The order of a stop: which services may be stopped now, by the edges and tiers of those that still live. The supervisor's own
//! stop, the keeper's and the sweep's take it from here, so that a plan gives the same order in all three.
//!
//! Edges are those that each process was started with, so after edits of the procfile they may form a cycle: the services of a
//! cycle are stopped together.

use std::collections::{BTreeMap, BTreeSet};

use devrun_model::{ServiceId, graph};

/// A service that lives and has not been given up, so what it needs may not be stopped before it.
#[derive(Debug, Clone)]
pub(super) struct Holder<'a> {
    /// The service.
    pub(super) service: &'a ServiceId,
    /// What it was started with as its dependencies.
    pub(super) depends_on: Vec<&'a ServiceId>,
    /// Its numbered tier; higher tiers are stopped first.
    pub(super) tier: Option<u32>,
    /// Whether it is still to be asked to stop.
    pub(super) is_queued: bool,
}

/// Returns the queued services that may be stopped now: those that no holder needs, by an edge or as a lower tier. Where
/// nothing is stopping and every queued one is needed, the cycles that nothing outside them needs.
#[must_use]
pub(super) fn next_to_stop<'a>(holders: &[Holder<'a>]) -> BTreeSet<&'a ServiceId> {
    let edges = holders.iter().flat_map(|holder| holder.depends_on.iter().filter(|on| **on != holder.service));
    let needed: BTreeSet<&ServiceId> = edges.copied().collect();
    let highest = holders.iter().filter_map(|holder| holder.tier).max();
    let is_free = |holder: &&Holder<'a>| {
        holder.is_queued && !needed.contains(holder.service) && (holder.tier.is_none() || holder.tier >= highest)
    };
    let free: BTreeSet<&ServiceId> = holders.iter().filter(is_free).map(|holder| holder.service).collect();
    if !free.is_empty() || holders.iter().any(|holder| !holder.is_queued) {
        return free;
    }
    cycles(holders)
}

/// The services of those cycles that nothing outside them needs.
pub(super) fn cycles<'a>(holders: &[Holder<'a>]) -> BTreeSet<&'a ServiceId> {
    /// `Above` stands for all tiers from this one up, so that tiers cost an edge for each service and not for each pair.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Node<'a> {
        Service(&'a ServiceId),
        Above(u32),
    }
    let tiers: BTreeSet<u32> = holders.iter().filter_map(|holder| holder.tier).collect();
    let above =
        |tier: u32| tiers.range(tier.saturating_add(1)..).next().filter(|next| **next > tier).map(|next| Node::Above(*next));
    // From each one to those that must be stopped before it.
    let mut edges: BTreeMap<Node<'a>, Vec<Node<'a>>> = BTreeMap::new();
    for holder in holders {
        let node = Node::Service(holder.service);
        let before = edges.entry(node).or_default();
        if let Some(tier) = holder.tier {
            before.extend(above(tier));
            edges.entry(Node::Above(tier)).or_default().push(node);
        }
    }
    for tier in &tiers {
        edges.entry(Node::Above(*tier)).or_default().extend(above(*tier));
    }
    for holder in holders {
        for on in holder.depends_on.iter().filter(|on| **on != holder.service) {
            if let Some(before) = edges.get_mut(&Node::Service(on)) {
                before.push(Node::Service(holder.service));
            }
        }
    }
    let components = graph::components(&edges);
    let place: BTreeMap<Node<'a>, usize> =
        components.iter().enumerate().flat_map(|(at, nodes)| nodes.iter().map(move |node| (*node, at))).collect();
    let is_last = |nodes: &&Vec<Node<'a>>| {
        let targets = nodes.iter().flat_map(|node| edges.get(node).into_iter().flatten());
        nodes.first().is_some_and(|first| targets.map(|target| place.get(target)).all(|at| at == place.get(first)))
    };
    let members = components.iter().filter(is_last).flatten();
    members
        .filter_map(|node| match node {
            Node::Service(service) => Some(*service),
            Node::Above(_) => None,
        })
        .collect()
}
