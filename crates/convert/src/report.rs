//! What became of each key of a foreign file, line by line.

use std::collections::BTreeSet;
use std::fmt::Write as _;

#[cfg(feature = "compose")]
use devrun_model::mask::Masker;

/// A place: which of the files that were read, the line and the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct At {
    /// Index into [`ConversionReport::files`].
    pub file: u32,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl At {
    /// What a line of the report says of it.
    fn line_of(self) -> (u32, u32) {
        (self.file, self.line)
    }
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOutcome {
    /// It stands in the procfile.
    Mapped,
    /// It has no native meaning; nothing is lost.
    Dropped,
    /// It has a meaning that did not come along: somebody must look at it.
    NotMapped,
}

impl KeyOutcome {
    /// The word in the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Dropped => "dropped",
            Self::NotMapped => "not mapped",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportLine {
    /// Where the key stands.
    pub at: At,
    /// What became of it.
    pub outcome: KeyOutcome,
    /// `services.db.image`.
    pub what: String,
    /// What it became, the reason, or the hint.
    pub text: String,
}

/// A text for a line of the report.
#[cfg(feature = "compose")]
pub(crate) fn shorten(text: &str) -> String {
    if text.chars().count() <= 90 { text.to_owned() } else { format!("{}…", text.chars().take(88).collect::<String>()) }
}

/// A text of a foreign file as part of one line: what would begin another line, or steer a terminal, is shown as an escape.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        // U+2028 and U+2029 are line breaks for some viewers.
        if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') {
            out.extend(char.escape_default())
        } else {
            out.push(char)
        }
    }
    out
}

/// `services.api.ports` → `api` and `.ports`.
fn split_service(what: &str) -> (&str, String) {
    let Some(rest) = what.strip_prefix("services.").or_else(|| what.strip_prefix("processes.")) else {
        return ("", what.to_owned());
    };
    match rest.split_once('.') {
        Some((service, key)) => (service, format!(".{key}")),
        None => (rest, String::new()),
    }
}

/// How the text of a `build` begins that is made of the steps of an image.
pub(crate) const PROPOSED: &str = "proposed from ";

/// Reports of up to this many lines are printed whole.
const SHORT: usize = 30;

/// All lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConversionReport {
    /// Names of the files, as shown.
    pub files: Vec<String>,
    /// In the order of the files.
    pub lines: Vec<ReportLine>,
    /// Those that were added, wherever in their line of the file: a file may have a hundred thousand keys.
    added: BTreeSet<ReportLine>,
}

#[cfg(feature = "compose")]
impl ConversionReport {
    /// One without lines.
    pub(crate) fn of_files(files: Vec<String>) -> Self {
        Self { files, ..Self::default() }
    }
    pub(crate) fn add(&mut self, outcome: KeyOutcome, at: At, what: impl Into<String>, text: impl Into<String>) {
        // The report is printed, and stands in the logs of CI. The procfile has the values themselves.
        let shown = Masker::default().thorough().text(&text.into());
        let line = ReportLine { at, outcome, what: one_line(&what.into()), text: one_line(&shown) };
        if self.added.insert(ReportLine { at: At { column: 0, ..at }, ..line.clone() }) {
            self.lines.push(line);
        }
    }
    pub(crate) fn mapped(&mut self, at: At, what: impl Into<String>, text: impl Into<String>) {
        self.add(KeyOutcome::Mapped, at, what, text);
    }
    pub(crate) fn dropped(&mut self, at: At, what: impl Into<String>, reason: impl Into<String>) {
        self.add(KeyOutcome::Dropped, at, what, reason);
    }
    pub(crate) fn not_mapped(&mut self, at: At, what: impl Into<String>, hint: impl Into<String>) {
        self.add(KeyOutcome::NotMapped, at, what, hint);
    }
}

impl ConversionReport {
    /// How many lines of this outcome there are.
    #[must_use]
    pub fn count(&self, outcome: KeyOutcome) -> usize {
        self.lines.iter().filter(|line| line.outcome == outcome).count()
    }
    /// `12 mapped, 3 dropped, 1 not mapped`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |outcome: KeyOutcome| format!("{} {}", self.count(outcome), outcome.word());
        [KeyOutcome::Mapped, KeyOutcome::Dropped, KeyOutcome::NotMapped].map(count).join(", ")
    }
    /// `compose.yml:12`.
    #[must_use]
    pub fn place(&self, at: At) -> String {
        let file = usize::try_from(at.file).ok().and_then(|file| self.files.get(file)).map_or("?", String::as_str);
        format!("{file}:{}", at.line)
    }
    /// `compose.yml:12:5`, for errors.
    #[must_use]
    pub fn exactly(&self, at: At) -> String {
        format!("{}:{}", self.place(at), at.column.max(1))
    }
    /// What `import` prints: every line of a short report, of a long one what [`Self::brief`] gives.
    #[must_use]
    pub fn overview(&self) -> String {
        if self.lines.len() > SHORT {
            return self.brief();
        }
        let all = self.render(&[KeyOutcome::Mapped, KeyOutcome::Dropped, KeyOutcome::NotMapped]);
        format!("{}{all}", self.by_hand())
    }
    fn by_hand(&self) -> String {
        let line = |what: &str, services: Vec<String>| match services.as_slice() {
            [] => String::new(),
            services => format!("by hand: {what}: {}\n", services.join(", ")),
        };
        let proposed = self.lines.iter().filter(|line| line.outcome == KeyOutcome::Mapped && line.text.starts_with(PROPOSED));
        let proposed = proposed.map(|line| format!("{} ({})", split_service(&line.what).0, self.place(line.at))).collect();
        line("the program must listen on $PORT", self.must_listen())
            + &line("look at the proposed `build`, which `devrun build` runs", proposed)
    }
    /// The report as it is read first: what must be done by hand, then what did not come along and what was dropped, each finding
    /// once for all the services it concerns. What was mapped stands in the procfile.
    #[must_use]
    pub fn brief(&self) -> String {
        let mut out = self.by_hand();
        for outcome in [KeyOutcome::NotMapped, KeyOutcome::Dropped] {
            let mut groups: Vec<(&ReportLine, String, Vec<&str>)> = Vec::new();
            let mut lines: Vec<&ReportLine> = self.lines.iter().filter(|line| line.outcome == outcome).collect();
            lines.sort_by_key(|line| line.at.line_of());
            for line in lines {
                let (service, key) = split_service(&line.what);
                match groups.iter_mut().find(|(first, known, _)| *known == key && first.text == line.text && !service.is_empty())
                {
                    Some((.., services)) if services.contains(&service) => {}
                    Some((.., services)) => services.push(service),
                    None => groups.push((line, key, vec![service])),
                }
            }
            for (line, key, services) in groups {
                let what = match services.as_slice() {
                    [_] => line.what.clone(),
                    several => format!("{}{key}", several.join(", ")),
                };
                let _infallible = writeln!(out, "{}: {}: {what}: {}", self.place(line.at), outcome.word(), line.text);
            }
        }
        out
    }
    /// The services whose program listens on a fixed port that is another one here.
    fn must_listen(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for line in self.lines.iter().filter(|line| line.text.contains("must listen on $PORT")) {
            let (service, _) = split_service(&line.what);
            let knows = self.lines.iter().any(|other| split_service(&other.what).0 == service && other.text.contains("${PORT}"));
            let text = format!("{service} ({})", self.place(line.at));
            if !knows && !found.contains(&text) {
                found.push(text);
            }
        }
        found
    }
    /// Every line about one service, task or process.
    #[must_use]
    pub fn about(&self, service: &str) -> String {
        let lines = self.lines.iter().filter(|line| split_service(&line.what).0 == service).cloned().collect();
        let only = Self { files: self.files.clone(), lines, ..Self::default() };
        only.render(&[KeyOutcome::Mapped, KeyOutcome::Dropped, KeyOutcome::NotMapped])
    }
    /// The lines of these outcomes, one each, in the order of the files.
    #[must_use]
    pub fn render(&self, outcomes: &[KeyOutcome]) -> String {
        let mut lines: Vec<&ReportLine> = self.lines.iter().filter(|line| outcomes.contains(&line.outcome)).collect();
        lines.sort_by_key(|line| line.at.line_of());
        let mut out = String::new();
        for line in lines {
            let _infallible = writeln!(out, "{}: {}: {}: {}", self.place(line.at), line.outcome.word(), line.what, line.text);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32) -> At {
        At { file: 0, line, column: 1 }
    }

    #[test]
    fn nothing_in_a_foreign_file_begins_a_line() {
        let mut report = ConversionReport { files: vec!["c.yml".to_owned()], ..ConversionReport::default() };
        report.mapped(at(1), "services.a\nc.yml:9: mapped: x", "y\r\nc.yml:9: mapped: forged\u{2028}\u{1b}[0m");
        let text = report.render(&[KeyOutcome::Mapped]);
        assert_eq!(text.lines().count(), 1);
        assert_eq!(text, "c.yml:1: mapped: services.a\\nc.yml:9: mapped: x: y\\r\\nc.yml:9: mapped: forged\\u{2028}\\u{1b}[0m\n");
    }

    #[test]
    fn the_same_is_said_once_for_a_line() {
        let mut report = ConversionReport::default();
        for column in 1..50 {
            report.mapped(At { file: 0, line: 1, column }, "services.a.depends_on", "b");
            report.mapped(At { file: 0, line: 1, column }, "services.a.depends_on", column.to_string());
        }
        report.dropped(at(1), "services.a.depends_on", "b");
        report.mapped(at(2), "services.a.depends_on", "b");
        assert_eq!(report.lines.len(), 52);
        assert_eq!(report.lines[0].at.column, 1, "the first one counts");
    }

    #[test]
    fn a_proposed_build_is_mapped_and_to_be_looked_at() {
        let mut report = ConversionReport { files: vec!["c.yml".to_owned()], ..ConversionReport::default() };
        report.mapped(at(3), "services.api.build", format!("{PROPOSED}its Dockerfile: build = \"make\""));
        report.mapped(at(4), "services.web.build", "stands on nginx:1: the recipe `nginx`");
        assert_eq!(report.brief(), "by hand: look at the proposed `build`, which `devrun build` runs: api (c.yml:3)\n");
        assert_eq!(report.summary(), "2 mapped, 0 dropped, 0 not mapped");
    }

    #[test]
    fn a_finding_stands_once_for_all_its_services() {
        let mut report = ConversionReport { files: vec!["c.yml".to_owned()], ..ConversionReport::default() };
        report.not_mapped(at(3), "services.a.labels", "same");
        report.not_mapped(at(3), "services.b.labels", "same");
        report.not_mapped(at(7), "services.b.labels", "other");
        report.dropped(at(8), "services.a.networks", "everything is on loopback");
        report.dropped(at(9), "services.b.networks", "everything is on loopback");
        report.mapped(at(4), "services.a.ports", "port = 1: here the program must listen on $PORT");
        report.mapped(at(5), "services.b.ports", "port = 2: here the program must listen on $PORT");
        report.mapped(at(5), "services.b.command", "run = \"x ${PORT}\"");
        let expected = "by hand: the program must listen on $PORT: a (c.yml:4)\n\
            c.yml:3: not mapped: a, b.labels: same\n\
            c.yml:7: not mapped: services.b.labels: other\n\
            c.yml:8: dropped: a, b.networks: everything is on loopback\n";
        assert_eq!(report.brief(), expected);
        assert_eq!(report.about("b").lines().count(), 5);
        assert!(report.overview().contains("c.yml:5: mapped: services.b.command"), "a short report is whole");
        for line in 10..60 {
            report.mapped(at(line), "services.c.image", line.to_string());
        }
        assert_eq!(report.overview(), expected);
    }
}
