//! Rows of `sql --json`: a list of objects, with the columns in the order of the statement.
//!
//! Numbers are written as the server writes them, as a detour over `f64` would round a `numeric` or a `bigint`.

use devrun_runtime::recipes::{SqlColumnKind, SqlTable};
use serde_json::Value;

/// The rows of a result on one line.
#[must_use]
pub fn rows(table: &SqlTable) -> String {
    let rows: Vec<String> = table.rows.iter().map(|row| object(table, row)).collect();
    format!("[{}]", rows.join(","))
}

fn object(table: &SqlTable, row: &[Option<String>]) -> String {
    let kinds = table.kinds.iter().copied().chain(std::iter::repeat(SqlColumnKind::Text));
    let pairs = table.columns.iter().zip(row).zip(kinds);
    let members: Vec<String> = pairs
        .map(|((column, value), kind)| format!("{}:{}", Value::from(column.as_str()), json(value.as_deref(), kind)))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn json(value: Option<&str>, kind: SqlColumnKind) -> String {
    let Some(text) = value else { return "null".to_owned() };
    match (kind, text) {
        (SqlColumnKind::Boolean, "t") => "true".to_owned(),
        (SqlColumnKind::Boolean, "f") => "false".to_owned(),
        // What JSON has no number for (`NaN`, `Infinity`) stays a string.
        (SqlColumnKind::Number, _) if text.ends_with(|last: char| last.is_ascii_digit()) => text.to_owned(),
        (SqlColumnKind::Json, _) => {
            // As it came, but on one line.
            serde_json::from_str::<Value>(text)
                .map_or_else(|_| Value::from(text).to_string(), |_| text.replace(['\n', '\r'], " "))
        }
        _ => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_kinds_and_all_their_digits() {
        use SqlColumnKind::{Boolean, Json, Number, Text};
        for (kind, text, expected) in [
            (Number, "42", "42"),
            (Number, "-7", "-7"),
            (Number, "9223372036854775807", "9223372036854775807"),
            (Number, "12.50", "12.50"),
            (Number, "0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
            (Number, "1e+20", "1e+20"),
            (Number, "NaN", "\"NaN\""),
            (Number, "-Infinity", "\"-Infinity\""),
            (Boolean, "t", "true"),
            (Boolean, "f", "false"),
            (Json, "{\"a\": [1, 2.50]}", "{\"a\": [1, 2.50]}"),
            (Json, "{\n\"a\": 1}", "{ \"a\": 1}"),
            (Text, "42", "\"42\""),
            (Text, "a\"b\n", "\"a\\\"b\\n\""),
        ] {
            let written = json(Some(text), kind);
            assert_eq!(written, expected);
            assert!(serde_json::from_str::<Value>(&written).is_ok(), "{written}");
        }
        assert_eq!(json(None, Number), "null");
    }

    #[test]
    fn columns_keep_their_order_and_are_text_where_their_kind_is_unknown() {
        let mut table = SqlTable {
            columns: vec!["b".to_owned(), "a".to_owned()],
            kinds: vec![SqlColumnKind::Number, SqlColumnKind::Text],
            rows: vec![vec![Some("1".to_owned()), None], vec![Some("2".to_owned()), Some("x".to_owned())]],
            affected: 2,
        };
        assert_eq!(rows(&table), r#"[{"b":1,"a":null},{"b":2,"a":"x"}]"#);
        table.kinds.clear();
        assert_eq!(rows(&table), r#"[{"b":"1","a":null},{"b":"2","a":"x"}]"#);
        table.rows.clear();
        assert_eq!(rows(&table), "[]");
    }
}
