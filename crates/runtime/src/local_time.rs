//! Times as people read them: engine, recipes and commands all show some.

/// A stamp for people: local time, to the second.
#[must_use]
pub fn local(stamp: &str) -> String {
    match stamp.parse::<jiff::Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => stamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn people_get_local_time_to_the_second() {
        let text = super::local("2026-11-28T03:56:54.016342Z");
        assert!(text.starts_with("2026-11-2") && text.ends_with(":54") && text.len() == 19, "{text}");
        assert_eq!(super::local("no stamp"), "no stamp");
    }
}
