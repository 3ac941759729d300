//! Durations as people write them: `250ms`, `10s`, `1m30s`, `2h`, `1.5s`; a bare `0` is zero.

use std::time::Duration;

/// Reads a duration.
///
/// # Errors
/// A lowercase fragment that says what is wrong and what would do.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0f64;
    let mut rest = text;
    if rest.is_empty() {
        return Err("a duration cannot be empty; write \"10s\", \"250ms\" or \"1m30s\"".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let Ok(number) = number.parse::<f64>() else {
            return Err(format!("invalid duration {text:?}; write \"10s\", \"250ms\" or \"1m30s\""));
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
            "" if !tail.is_empty() => return Err(format!("invalid duration {text:?}; write \"10s\", \"250ms\" or \"1m30s\"")),
            "" => return Err(format!("{text:?} has no unit; did you mean \"{text}s\"?")),
            other => return Err(format!("unknown unit {other:?} in a duration; use ms, s, m, h or d")),
        };
        total += number * seconds;
        rest = tail;
    }
    // A year is longer than any wait that makes sense, and far from where arithmetic on deadlines overflows.
    if !total.is_finite() || total > 366.0 * 86400.0 {
        return Err(format!("{text:?} is longer than a year"));
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
        for bad in ["", "10", "ten", "5 s", "1w", "-1s", "1e9s", "99999999999999999999h", "."] {
            let message = parse(bad).unwrap_err();
            assert!(!message.is_empty(), "{bad:?}");
        }
        assert!(parse("10").unwrap_err().contains("\"10s\""));
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
