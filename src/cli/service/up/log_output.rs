//! The merged logs of an attached `up` on standard output.

use std::io::{IsTerminal, Write};

use devrun_logs::LogItem;

use super::UpArgs;
use crate::app::stack_session::StackSession;
use crate::ui::logview::{LogView, Style};
use crate::ui::output;
use crate::ui::progress::ProgressView;
use crate::ui::term::Term;

/// Pieces of output that go before a summary.
const SHOWN_AT_ONCE: usize = 512;

pub(super) fn style(term: Term, args: &UpArgs) -> Style {
    Style {
        color: term.out_color && !args.no_color,
        terminal: std::io::stdout().is_terminal(),
        timestamps: args.timestamps,
        no_prefix: args.no_prefix,
        json: false,
    }
}

/// Shows one item and whatever else is there already, in one go. A reader that is gone gets nothing more; services go on.
pub(super) fn show(item: LogItem, session: &mut StackSession, lines: &mut LogView, view: &ProgressView) {
    view.beside(|| {
        let mut out = output::Stdout;
        let mut next = Some(item);
        let mut count = 0;
        while let Some(item) = next {
            if lines.item(&item, &mut out).is_err() {
                break;
            }
            count += 1;
            next = if count < 64 { session.try_next_log() } else { None };
        }
        if view.is_live() {
            // The live lines are drawn below.
            let _gone = lines.end_line(&mut out);
        }
        let _gone = out.flush();
    });
}

/// Shows what has come so far. A service that never pauses adds to it all the time, so there is a bound.
pub(super) fn show_waiting(session: &mut StackSession, lines: &mut LogView, view: &ProgressView) {
    for _ in 0..SHOWN_AT_ONCE {
        let Some(item) = session.try_next_log() else { return };
        show(item, session, lines, view);
    }
}

/// Shows all that is left once nothing is added any more.
pub(super) fn drain(session: &mut StackSession, lines: &mut LogView, view: &ProgressView) {
    while let Some(item) = session.try_next_log() {
        show(item, session, lines, view);
    }
}
