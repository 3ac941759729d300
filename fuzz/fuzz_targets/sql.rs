//! Any text as a SQL script: statements that lie in it in order, each with its line, or a reason.
#![no_main]

use devrun_runtime::recipes::sql_split::split;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(statements) = split(text) else { return };
    let mut from = text.as_ptr() as usize;
    for statement in statements {
        let at = statement.text.as_ptr() as usize;
        assert!(at >= from && !statement.text.is_empty(), "{statement:?}");
        let before = &text[..at - text.as_ptr() as usize];
        assert_eq!(statement.line, 1 + before.matches('\n').count(), "{statement:?}");
        from = at + statement.text.len();
    }
});
