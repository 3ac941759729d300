//! `devrun logs`: from the files alone, so it works with the stack down and never touches a service.

use crate::app::log_selection;
use clap::Args;
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use regex::bytes::Regex;

use crate::ui::logview::{LogView, Style};
use crate::ui::output;
use crate::ui::term::Term;
use devrun_logs::read::merged;
use devrun_logs::{LogFollower, LogLine, LogQuery, last_matches, visible_text};
use devrun_model::exit;
use devrun_model::pattern_error::pattern_error;
use devrun_model::{Failure, FailureKind, ServiceId};

use crate::app::load::{self};
use crate::app::restart_reasons::{RestartReasons, past_reasons};
use crate::globals::Globals;

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Follow new output (also -f)
    #[arg(long)]
    pub follow: bool,
    /// Number of lines to show per service: of its output, and of those that match
    #[arg(short = 'n', long = "tail", value_name = "N")]
    pub tail: Option<String>,
    /// Show RFC 3339 timestamps
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Show only entries since a time: 10m, or RFC 3339
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    /// Show only entries until a time: 10m, or RFC 3339
    #[arg(long, value_name = "T")]
    pub until: Option<String>,
    /// Show only lines that match a regular expression
    #[arg(long, value_name = "PATTERN")]
    pub grep: Option<String>,
    /// Show output of the previous start
    #[arg(long)]
    pub previous: bool,
    /// Output as JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Do not print service names
    #[arg(long, alias = "no-log-prefix")]
    pub no_prefix: bool,
    /// Compose's word for `--color never`
    #[arg(long, hide = true)]
    pub no_color: bool,
}

/// How often followed files are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs it.
///
/// # Errors
/// `Config` for names, times and patterns that are none.
pub fn run(globals: &Globals, args: &LogsArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    if args.previous && args.follow {
        return Err(Failure::new(FailureKind::Config, "--previous is about what has ended: there is nothing to follow")
            .help("devrun logs --previous api"));
    }
    let bad = |what: String, help: &str| Failure::new(FailureKind::Config, what).help(help.to_owned());
    log_selection::check(&project)?;
    let known = log_selection::known(&project);
    let ids: Vec<ServiceId> = if args.services.is_empty() {
        known.clone()
    } else {
        let mut ids = Vec::new();
        for name in &args.services {
            let found: Vec<_> = known
                .iter()
                .filter(|id| {
                    // `worker` is all its copies, and a service is its further files too: `worker.2`, `web/access.log`.
                    let (service, _) = id.as_str().split_once('/').unwrap_or((id.as_str(), ""));
                    let named = |id: &str| id == name || id.split_once('.').is_some_and(|(service, _)| service == name);
                    id.as_str() == name || named(service)
                })
                .cloned()
                .collect();
            if found.is_empty() {
                // A service of the procfile that has said nothing yet is no mistake.
                let plan = load::plan(globals, &project, &load::Wanted::look())?;
                ids.extend(load::resolve(&plan, std::slice::from_ref(name))?);
            }
            ids.extend(found);
        }
        ids
    };
    let tail = log_selection::tail(args.tail.as_deref(), "devrun logs -n 50")?;
    let time = |text: &Option<String>| text.as_deref().map(log_selection::moment).transpose();
    let query =
        LogQuery { tail, since: time(&args.since)?, until: time(&args.until)?, previous: args.previous, generation: None };
    let grep =
        args.grep.as_deref().map(Regex::new).transpose().map_err(|error| {
            bad(format!("invalid --grep pattern: {}", pattern_error(&error)), "devrun logs --grep 'error|warn'")
        })?;
    let style = Style {
        color: term.out_color && !args.no_color,
        terminal: std::io::stdout().is_terminal(),
        timestamps: args.timestamps,
        no_prefix: args.no_prefix,
        json: args.json,
    };
    let mut view = LogView::new(style, &ids);
    let mut out = std::io::BufWriter::with_capacity(256 * 1024, output::Stdout);
    let mut show = |line: &LogLine, out: &mut dyn Write| -> std::io::Result<()> {
        if grep.as_ref().is_none_or(|grep| visible_text::matches(grep, &line.bytes)) { view.line(line, out) } else { Ok(()) }
    };
    // The ends are noted before the past is read: what comes in between is shown by the follower, and by it alone.
    let mut follower = args.follow.then(|| LogFollower::new(&project.places.logs(), &ids));
    let unreadable = |error: std::io::Error| log_selection::unreadable(&project, &error);
    let mut restarts = match args.no_prefix {
        // What is written on is the service's own output.
        true => VecDeque::new(),
        false => past_reasons(&project.places, &ids, &query),
    };
    let mut is_first = true;
    let lines: Box<dyn Iterator<Item = _>> = match (&grep, tail) {
        (Some(grep), Some(count)) => {
            let all = LogQuery { tail: None, ..query.clone() };
            let all = merged(&project.places.logs(), &ids, &all).map_err(unreadable)?;
            Box::new(last_matches(all, grep, count).map_err(unreadable)?.into_iter().map(Ok))
        }
        _ => Box::new(merged(&project.places.logs(), &ids, &query).map_err(unreadable)?),
    };
    for line in lines {
        let line = line.map_err(unreadable)?;
        while restarts.front().is_some_and(|restart| restart.micros <= line.micros) {
            // The last lines are those of its output.
            let restart = restarts.pop_front().filter(|_| tail.is_none());
            if restart.is_some_and(|restart| show(&restart, &mut out).is_err()) {
                return Ok(exit::DONE);
            }
        }
        is_first = false;
        if show(&line, &mut out).is_err() {
            return Ok(exit::DONE);
        }
    }
    // How often it was restarted is all that is known of a service without a word.
    let most = match tail {
        Some(count) if is_first => count,
        Some(_) => 0,
        None => restarts.len(),
    };
    for restart in restarts.range(restarts.len().saturating_sub(most)..) {
        if show(restart, &mut out).is_err() {
            return Ok(exit::DONE);
        }
    }
    let Some(follower) = &mut follower else {
        // A reader that is gone needs no more.
        let _gone = view.end_line(&mut out).and_then(|()| out.flush());
        return Ok(exit::DONE);
    };
    if out.flush().is_err() {
        return Ok(exit::DONE);
    }
    let mut reasons = RestartReasons::new(&project.places);
    loop {
        if !follower.is_behind() {
            std::thread::sleep(LOOK);
        }
        if args.services.is_empty() {
            for id in log_selection::known(&project) {
                follower.add(&id, false);
            }
        }
        let mut lines = follower.poll();
        lines.extend(reasons.poll(&ids));
        let shown = lines.iter().try_for_each(|line| show(line, &mut out)).and_then(|()| out.flush());
        if shown.is_err() || output::is_reader_gone() {
            return Ok(exit::DONE);
        }
    }
}
