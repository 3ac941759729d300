//! Durations as people write them: `250ms`, `10s`, `1m30s`, `2h`, `1.5s`; a bare `0` is zero.

use std::time::Duration;

use crate::value_error::ValueError;

/// Reads a duration.
///
/// # Errors
/// A lowercase fragment that says what is wrong and what would do.
pub fn parse(text: &str) -> Result<Duration, ValueError> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0f64;
    let mut rest = text;
    if rest.is_empty() {
        return Err(ValueError::EmptyDuration);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let Ok(number) = number.parse::<f64>() else {
            return Err(ValueError::InvalidDuration(text.to_owned()));
        };
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            "" if !tail.is_empty() => return Err(ValueError::InvalidDuration(text.to_owned())),
            "" => return Err(ValueError::MissingUnit(text.to_owned())),
            other => return Err(ValueError::UnknownDurationUnit(other.to_owned())),
        };
        total += number * seconds;
        rest = tail;
    }
    // A year is longer than any wait that makes sense, and far from where arithmetic on deadlines overflows.
    if !total.is_finite() || total > 366.0 * 86400.0 {
        return Err(ValueError::DurationTooLong(text.to_owned()));
    }
    Ok(Duration::from_secs_f64(total))
}

/// Writes a duration the way `parse` reads it, in the largest units that are exact to the millisecond.
#[must_use]
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    let (hours, minutes, seconds, millis) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    let mut out = String::new();
    if hours > 0 {
        out.push_str(&format!("{hours}h"));
    }
    if minutes > 0 {
        out.push_str(&format!("{minutes}m"));
    }
    if seconds > 0 {
        out.push_str(&format!("{seconds}s"));
    }
    if millis > 0 {
        out.push_str(&format!("{millis}ms"));
    }
    out
}

/// Writes a duration for people: `40ms`, `1.9s`, `38s`, `2m 10s`, `3h 7m`.
#[must_use]
pub fn human(duration: Duration) -> String {
    let ms = duration.as_millis();
    let tenths = (ms + 50) / 100;
    let seconds = (ms + 500) / 1000;
    let parts = |large: u128, unit: char, small: u128, part: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit} {small}{part}") }
    };
    match ms {
        0..100 => format!("{ms}ms"),
        _ if tenths < 100 => format!("{}.{}s", tenths / 10, tenths % 10),
        _ if seconds < 60 => format!("{seconds}s"),
        _ if seconds < 3600 => parts(seconds / 60, 'm', seconds % 60, 's'),
        _ => parts(seconds / 3600, 'h', seconds / 60 % 60, 'm'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [("10s", 10_000), ("250ms", 250), ("1m30s", 90_000), ("0", 0), ("1.5s", 1500), ("2h", 7_200_000)] {
            assert_eq!(parse(text).unwrap().as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn says_what_would_do() {
        let own = |text: &str| text.to_owned();
        for (bad, error) in [
            ("", ValueError::EmptyDuration),
            ("10", ValueError::MissingUnit(own("10"))),
            ("ten", ValueError::InvalidDuration(own("ten"))),
            ("5 s", ValueError::InvalidDuration(own("5 s"))),
            ("1w", ValueError::UnknownDurationUnit(own("w"))),
            ("-1s", ValueError::InvalidDuration(own("-1s"))),
            ("1e9s", ValueError::UnknownDurationUnit(own("e"))),
            ("99999999999999999999h", ValueError::DurationTooLong(own("99999999999999999999h"))),
            (".", ValueError::InvalidDuration(own("."))),
        ] {
            assert_eq!(parse(bad), Err(error), "{bad:?}");
        }
        assert_eq!(parse("10").unwrap_err().to_string(), "\"10\" has no unit; did you mean \"10s\"?");
        assert_eq!(parse("1w").unwrap_err().to_string(), "unknown unit \"w\" in a duration; use ms, s, m, h or d");
    }

    #[test]
    fn people_read_what_matters() {
        for (ms, text) in [
            (0, "0ms"),
            (40, "40ms"),
            (99, "99ms"),
            (100, "0.1s"),
            (1_949, "1.9s"),
            (9_949, "9.9s"),
            (9_950, "10s"),
            (38_400, "38s"),
            (59_499, "59s"),
            (59_500, "1m"),
            (130_000, "2m 10s"),
            (3_599_499, "59m 59s"),
            (3_600_000, "1h"),
            (11_220_000, "3h 7m"),
        ] {
            assert_eq!(human(Duration::from_millis(ms)), text, "{ms}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 1, 250, 1000, 61_000, 3_600_000, 3_661_001] {
            let d = Duration::from_millis(ms);
            assert_eq!(parse(&format(d)).unwrap(), d);
        }
    }
}
