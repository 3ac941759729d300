//! Sizes as people write them: `512M`, `10G`, `1.5g`, `64KiB`; a bare number is bytes. Powers of 1024, as in compose.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads a size.
    ///
    /// # Errors
    /// A lowercase fragment that says what is wrong and what would do.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let Ok(number) = number.parse::<f64>() else {
            return Err(ValueError::InvalidSize(text.to_owned()));
        };
        let factor: f64 = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
            "" => 1.0,
            "k" => 1024.0,
            "m" => 1024.0 * 1024.0,
            "g" => 1024.0 * 1024.0 * 1024.0,
            "t" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(ValueError::UnknownSizeUnit(unit.trim().to_owned())),
        };
        let bytes = number * factor;
        if !bytes.is_finite() || bytes > 9.0e18 {
            return Err(ValueError::SizeTooLarge(text.to_owned()));
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that gives at least 1, one decimal where it is not whole: `512M`, `1.5G`, `900B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in ["K", "M", "G", "T"] {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if (value - value.round()).abs() < 0.05 { write!(f, "{value:.0}{unit}") } else { write!(f, "{value:.1}{unit}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("10M", 10 << 20), ("1G", 1 << 30), ("64KiB", 64 << 10), ("100", 100), ("1.5k", 1536), ("8 GB", 8 << 30)]
        {
            assert_eq!(ByteSize::parse(text).unwrap().0, bytes, "{text}");
        }
        let own = |text: &str| text.to_owned();
        for (bad, error) in [
            ("", ValueError::InvalidSize(own(""))),
            ("M", ValueError::InvalidSize(own("M"))),
            ("5X", ValueError::UnknownSizeUnit(own("X"))),
            ("-1M", ValueError::InvalidSize(own("-1M"))),
            ("1e30T", ValueError::UnknownSizeUnit(own("e30T"))),
            ("99999999999999999999T", ValueError::SizeTooLarge(own("99999999999999999999T"))),
        ] {
            assert_eq!(ByteSize::parse(bad), Err(error), "{bad:?}");
        }
        assert_eq!(ByteSize(1536 << 20).to_string(), "1.5G");
    }
}
