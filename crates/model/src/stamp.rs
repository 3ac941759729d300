//! Stamps of events, as the engine writes them: `2026-11-28T03:56:54.016342Z`.

use std::time::Duration;

/// The time from one stamp to a later one; `None` for text of another form, and where the clock was set back.
pub(crate) fn elapsed(from: &str, to: &str) -> Option<Duration> {
    Some(Duration::from_micros(micros(to)?.checked_sub(micros(from)?)?))
}

/// Microseconds since 1970.
fn micros(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let (year, month, day) = three(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (hour, minute, second) = three(time, ':')?;
    let fraction: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year begins in March, so that the leap day is its last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + fraction)
}

fn three(text: &str, separator: char) -> Option<(u64, u64, u64)> {
    let mut parts = text.splitn(3, separator).map(|part| part.parse().ok().filter(|number| *number < 10_000));
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_microseconds_since_1970() {
        assert_eq!(micros("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(micros("2026-11-28T03:56:54.016342Z"), Some(1_795_838_214_016_342));
        assert_eq!(micros("2024-02-29T23:59:59.5Z"), Some(1_709_251_199_500_000));
        assert_eq!(elapsed("2024-02-29T23:59:59.9Z", "2024-03-01T00:00:00.1Z"), Some(Duration::from_millis(200)));
        for text in ["", "T", "T1", "2026-11-28", "2026-13-28T03:56:54Z", "2026-11-28T03:56:54.016342", "x-y-zT1:2:3Z"] {
            assert_eq!(micros(text), None, "{text}");
        }
        assert_eq!(elapsed("2024-03-01T00:00:01Z", "2024-03-01T00:00:00Z"), None);
    }
}
