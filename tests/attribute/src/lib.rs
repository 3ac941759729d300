//! The attribute `#[test]` of `tests/it`, which registers a test with the runner in `tests/it/runner.rs` instead of the standard
//! harness: there a test can only be ignored by its source, so one that finds out at run time that it cannot run here would
//! count as passed.
//!
//! `main.rs` imports it with `#[macro_use]`, which hides the standard attribute of that name in every module. An `async` test
//! gets a runtime; what stands in brackets goes to `tokio::main`, as in `#[test(flavor = "multi_thread")]`. A function that another
//! test starts in a process of its own is `#[test(only_with = "VARIABLE")]`: it is a test only where that variable is set.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Registers a function without arguments as a test.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let parts: Vec<TokenTree> = function.clone().into_iter().collect();
    let is = |at: usize, word: &str| matches!(parts.get(at), Some(TokenTree::Ident(ident)) if ident.to_string() == word);
    let Some(keyword) = (0..parts.len()).find(|at| is(*at, "fn")) else {
        return error("`#[test]` is for functions");
    };
    let Some(TokenTree::Ident(name)) = parts.get(keyword + 1) else {
        return error("`#[test]` is for functions with a name");
    };
    let is_async = (0..keyword).any(|at| is(at, "async"));
    let words: Vec<String> = arguments.clone().into_iter().map(|token| token.to_string()).collect();
    let (only_with, runtime) = match words.as_slice() {
        [key, equals, variable] if key == "only_with" && equals == "=" => (format!("Some({variable})"), String::new()),
        _ => ("None".to_owned(), arguments.to_string()),
    };
    if !is_async && !runtime.is_empty() {
        return error("a runtime is for `async` functions");
    }
    let runtime = match (is_async, runtime.as_str()) {
        (false, _) => String::new(),
        (true, "") => "#[::tokio::main(flavor = \"current_thread\")]".to_owned(),
        (true, settings) => format!("#[::tokio::main({settings})]"),
    };
    let registration = format!(
        "{conditions} ::inventory::submit! {{ crate::runner::Test {{ path: ::core::concat!(::core::module_path!(), \"::\", \
         ::core::stringify!({name})), only_with: {only_with}, run: {name} }} }}",
        conditions = conditions(&parts[..keyword]),
    );
    match (runtime.parse::<TokenStream>(), registration.parse::<TokenStream>()) {
        (Ok(mut test), Ok(registration)) => {
            test.extend(function);
            test.extend(registration);
            test
        }
        _ => error("the arguments of `#[test]` cannot be read"),
    }
}

/// The `#[cfg(…)]` among the attributes of a function.
fn conditions(parts: &[TokenTree]) -> String {
    let attribute = |pair: &[TokenTree]| match pair {
        [TokenTree::Punct(hash), TokenTree::Group(group)] if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket => {
            let text = group.to_string();
            text.trim_start_matches(['[', ' ']).starts_with("cfg").then(|| format!("#{text}"))
        }
        _ => None,
    };
    parts.windows(2).filter_map(attribute).collect()
}

fn error(text: &str) -> TokenStream {
    format!("::core::compile_error!({text:?});").parse().unwrap_or_default()
}
