//! Times for people: local and to the second. What machines read stays RFC 3339 in UTC.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time as the feed and the files have it; today's without the date. What is none stays as it is.
#[must_use]
pub fn local_time(text: &str) -> String {
    let zone = TimeZone::system();
    text.parse().map_or_else(|_| text.to_owned(), |at: Timestamp| shown(at, Timestamp::now(), &zone))
}

fn shown(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, today) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()).date());
    at.strftime(if at.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_and_to_the_second() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let now = at("2026-03-01T10:00:00Z");
        assert_eq!(shown(at("2026-03-01T09:30:15.999999Z"), now, &zone), "11:30:15");
        assert_eq!(shown(at("2026-02-28T21:30:15Z"), now, &zone), "2026-02-28 23:30:15");
        assert_eq!(shown(at("2026-02-28T22:30:15Z"), now, &zone), "00:30:15");
        assert_eq!(local_time("never"), "never");
    }
}
