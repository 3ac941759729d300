//! How OTLP's JSON writes what JSON has no type for: 64-bit numbers as texts, ids in hexadecimal, bytes in base64, and the names of
//! enums, which some senders use in the place of their numbers.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, de::DeserializeOwned};

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOr<T> {
    Value(T),
    Text(String),
}

fn number<'de, D: Deserializer<'de>, T: DeserializeOwned + FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    match TextOr::<T>::deserialize(deserializer)? {
        TextOr::Value(value) => Ok(value),
        TextOr::Text(text) => text.parse().map_err(D::Error::custom),
    }
}

pub(crate) fn unsigned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    number(deserializer)
}

pub(crate) fn signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    number(deserializer)
}

/// Also `"NaN"` and `"Infinity"`.
pub(crate) fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer)
}

/// A number, or a name of the enum that ends in what it stands for; an unknown name is 0, as an unknown number would be.
pub(crate) fn enum_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    Ok(match TextOr::<i32>::deserialize(deserializer)? {
        TextOr::Value(value) => value,
        TextOr::Text(text) => {
            match text.strip_prefix("SEVERITY_NUMBER_").map(|name| (name, name.trim_end_matches(char::is_numeric))) {
                Some((name, level)) => {
                    let first = match level {
                        "TRACE" => 1,
                        "DEBUG" => 5,
                        "INFO" => 9,
                        "WARN" => 13,
                        "ERROR" => 17,
                        "FATAL" => 21,
                        _ => return Ok(0),
                    };
                    let step = name.get(level.len()..).and_then(|step| step.parse::<i32>().ok()).unwrap_or(1);
                    first + (step - 1).clamp(0, 3)
                }
                None => match text.as_str() {
                    "SPAN_KIND_INTERNAL" | "STATUS_CODE_OK" => 1,
                    "SPAN_KIND_SERVER" | "STATUS_CODE_ERROR" => 2,
                    "SPAN_KIND_CLIENT" => 3,
                    "SPAN_KIND_PRODUCER" => 4,
                    "SPAN_KIND_CONSUMER" => 5,
                    _ => 0,
                },
            }
        }
    })
}

pub(crate) fn hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits: Option<Vec<u32>> = text.chars().map(|char| char.to_digit(16)).collect();
    let digits =
        digits.filter(|digits| digits.len().is_multiple_of(2)).ok_or_else(|| D::Error::custom("an id is not hexadecimal"))?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte: u8, digit| byte << 4 | u8::try_from(*digit).unwrap_or(0)))
        .collect())
}

pub(crate) fn base64_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
}
