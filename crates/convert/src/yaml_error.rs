//! The errors of the YAML parser in words for the author of the file. Its own texts are for programmers who call it: they name its options
//! and its types.

use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

/// Bytes of a text of the parser that are passed on.
const LONGEST: usize = 300;

/// What is wrong, without the place.
pub(super) fn message(error: &Error) -> String {
    let text = match error.without_snippet() {
        Error::AliasError { error, .. } => return message(error),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("duplicate key: `{key}` stands here twice"),
        Error::DuplicateMappingKey { key: None, .. } => "duplicate key".to_owned(),
        Error::NullIntoString { .. } => "missing key before `:`".to_owned(),
        Error::TaggedScalarCannotDeserializeIntoString { .. } => "a key cannot have this tag".to_owned(),
        Error::Eof { .. } => "unexpected end of the file".to_owned(),
        Error::MultipleDocuments { .. } => "a second document begins here".to_owned(),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "the value of `<<` must be a table or a list of tables".to_owned(),
        Error::InvalidBinaryBase64 { .. } => "invalid base64 after `!!binary`".to_owned(),
        Error::BinaryNotUtf8 { .. } => "the value after `!!binary` is not text".to_owned(),
        Error::InvalidUtf8Input => "the file is not valid UTF-8".to_owned(),
        Error::InvalidBooleanStrict { .. } => "invalid boolean: write true or false".to_owned(),
        Error::InvalidScalar { .. } | Error::NonFiniteFloat { .. } => "invalid number".to_owned(),
        Error::UnexpectedSequenceEnd { .. }
        | Error::UnexpectedMappingEnd { .. }
        | Error::UnexpectedContainerEndWhileSkippingNode { .. }
        | Error::UnexpectedContainerEndWhileReadingKeyNode { .. }
        | Error::ContainerEndMismatch { .. } => "a list or table ends here that did not begin".to_owned(),
        Error::UnknownAnchor { .. } => "unknown anchor: no `&NAME` before this alias".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an anchor holds an alias of itself".to_owned(),
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "the aliases unfold to too much".to_owned(),
        Error::FoldedBlockScalarMustIndentContent { .. } => "the lines after `>` must be indented".to_owned(),
        Error::Unexpected { .. } | Error::SerdeInvalidType { .. } | Error::SerdeInvalidValue { .. } => {
            "a key must be text".to_owned()
        }
        Error::QuotingRequired { value, .. } => format!("the text {value} must be quoted"),
        Error::IndentationError { actual, .. } => format!("invalid indentation of {actual} spaces"),
        Error::Budget { breach, .. } => too_much(breach).to_owned(),
        // The scanner's own words are about the text of the file.
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => {
            msg.split(" at line ").next().unwrap_or(msg).to_owned()
        }
        _ => "invalid YAML".to_owned(),
    };
    text.chars().filter(|char| !char.is_control()).take(LONGEST).collect()
}

/// Which limit a file does not keep.
fn too_much(breach: &BudgetBreach) -> &'static str {
    match breach {
        BudgetBreach::Depth { .. } => "lists and tables are nested too deeply",
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } | BudgetBreach::AliasAnchorRatio { .. } => {
            "there are too many aliases"
        }
        BudgetBreach::MergeKeys { .. } => "there are too many merge keys `<<`",
        BudgetBreach::Documents { .. } => "a second document begins here",
        BudgetBreach::ScalarBytes { .. } => "the texts of the file are too long",
        _ => "the file has too many values",
    }
}

#[cfg(test)]
mod tests {
    use crate::yaml;

    #[test]
    fn faults_are_named_in_words_for_the_author() {
        let deep = format!("a: {}{}", "[".repeat(80), "]".repeat(80));
        let many = format!("a: &a x\nb: [{}]", "*a, ".repeat(6000));
        let bomb = format!(
            "a: &a [x,x,x,x,x,x,x,x]\nb: &b [{0}]\nc: &c [{1}]\nd: [{2}]\n",
            "*a,".repeat(100),
            "*b,".repeat(100),
            "*c,".repeat(100)
        );
        let faults = [
            ("  : [", "missing key before `:`"),
            ("a: 1\na: 2\n", "duplicate key: `a` stands here twice"),
            ("a: *b\n", "unknown anchor: no `&NAME` before this alias"),
            ("a:\n  <<: text\n", "the value of `<<` must be a table or a list of tables"),
            ("? [a]\n: b\n", "a key must be text"),
            ("a: &a [*a]\n", "an anchor holds an alias of itself"),
            (deep.as_str(), "lists and tables are nested too deeply"),
            (many.as_str(), "there are too many aliases"),
            (bomb.as_str(), "the aliases unfold to too much"),
        ];
        for (text, expected) in faults {
            let shown: String = text.chars().take(40).collect();
            assert_eq!(yaml::parse(text, 0).map_err(|bad| bad.message).err().as_deref(), Some(expected), "{shown}");
        }
    }

    /// Whatever is wrong, no type and no option of the parser is named.
    #[test]
    fn no_word_of_the_parser_is_passed_on() {
        let texts = [
            "a: [",
            "a: {",
            "a: ]",
            "a: }",
            "- a\nb: c",
            "a: 'x",
            "a: \"x",
            "a: b: c",
            "\ta: b",
            "a: |\nb",
            "a: >\nb",
            "a: !!int x",
            "a: !!bool x",
            "a: !!float x",
            "a: !!binary x",
            "a: !!null x",
            "!!int a: b",
            "!x a: b",
            "? {a: b}\n: c",
            "null: a",
            "~: a",
            "true: a",
            "1: a",
            "a: &",
            "a: *",
            "%YAML 9\n---\na: b",
            "a: b\n--- c",
            "a: @b",
            "a: `b",
            "<<: a",
            "<<: [a]",
            "a: -",
            "[a, b]: c",
            "a: \"\\xZZ\"",
            "a: \u{0}",
            "&a : b",
            "a: !include b",
            "a: !!set {a, b}",
            "a: !!omap [a: b]",
            "a: !<tag:x> b",
            "a: 99999999999999999999999999999999999999999999",
        ];
        for text in texts {
            let Err(bad) = yaml::parse(text, 0) else { continue };
            let words = [
                "Option",
                "Polic",
                "deserialize",
                "serde",
                "budget",
                "String",
                "limit exceeded",
                "enum",
                "struct",
                "null into",
                "_",
            ];
            let passed_on = words.iter().find(|word| bad.message.contains(*word));
            assert_eq!(passed_on, None, "{text:?}: {}", bad.message);
            assert!(!bad.message.is_empty(), "{text:?}");
        }
    }
}
