//! The last lines of a service as a report quotes them: as people see them, and none that is blank.

use std::io;
use std::path::Path;

use devrun_model::ServiceId;

use super::read::{LogQuery, lines};
use super::visible_text::visible;

/// Lines that are read at most for those that are not blank.
const MOST: usize = 4096;

/// The last `count` lines that are not blank, oldest first, of those that the query takes. Its own `tail` does not count.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn last_texts(folder: &Path, id: &ServiceId, query: &LogQuery, count: usize) -> io::Result<Vec<String>> {
    let mut tail = count;
    loop {
        let query = LogQuery { tail: Some(tail), ..query.clone() };
        let (mut read, mut texts) = (0, Vec::new());
        for line in lines(folder, id, &query)?.map_while(Result::ok) {
            read += 1;
            let text = visible(&line.bytes);
            if !text.trim().is_empty() {
                texts.push(text);
            }
        }
        if texts.len() >= count || read < tail || tail >= MOST {
            texts.drain(..texts.len().saturating_sub(count));
            return Ok(texts);
        }
        tail = (tail * 4).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_stream::LogStream;
    use super::super::rotating_log_file::LogFile;
    use super::*;
    use devrun_model::{ServiceName, service::LogSpec};

    #[test]
    fn blank_lines_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let id = ServiceId::single(&ServiceName::new("a").unwrap());
        let mut log = LogFile::open(dir.path(), &id, &LogSpec::default()).unwrap();
        log.append(LogStream::Stdout, 1, b"first\n\x1b[32mgreen\x1b[0m\n");
        log.append(LogStream::Stdout, 2, "\n \x1b[0m\n".repeat(30).as_bytes());
        let last = |count| last_texts(dir.path(), &id, &LogQuery::default(), count).unwrap();
        assert_eq!(last(1), ["green"]);
        assert_eq!(last(2), ["first", "green"]);
        assert_eq!(last(20), ["first", "green"]);
    }
}
