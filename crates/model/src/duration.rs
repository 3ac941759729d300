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
            return Err(format!("{text:?} is no duration; write \"10s\", \"250ms\" or \"1m30s\""));
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
            "" if !tail.is_empty() => return Err(format!("{text:?} is no duration; write \"10s\", \"250ms\" or \"1m30s\"")),
            "" => return Err(format!("{text:?} has no unit; did you mean \"{text}s\"?")),
            other => return Err(format!("{other:?} is no unit of time; use ms, s, m, h or d")),
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

/// Writes a duration for people: `0.31 s`, `14.2 s`, `2 m 05 s`, `3 h 07 m`.
#[must_use]
pub fn human(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    if s < 1.0 {
        format!("{s:.2} s")
    } else if s < 60.0 {
        format!("{s:.1} s")
    } else if s < 3600.0 {
        format!("{} m {:02} s", s as u64 / 60, s as u64 % 60)
    } else {
        format!("{} h {:02} m", s as u64 / 3600, s as u64 / 60 % 60)
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
    fn what_is_written_reads_back() {
        for ms in [0, 1, 250, 1000, 61_000, 3_600_000, 3_661_001] {
            let d = Duration::from_millis(ms);
            assert_eq!(parse(&format(d)).unwrap(), d);
        }
    }
}
