//! `bind` is an address of this machine or the name of one.

use std::net::IpAddr;

use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::interpolate::Resolver;

/// Reports what no server could listen on.
pub(crate) fn check(resolver: &Resolver<'_>, service: &DeclaredService) {
    let Some(node) = service.get("bind") else { return };
    // What cannot be filled in is reported where it is used.
    let Ok(text) = resolver.bind(service) else { return };
    if is_address(&text) {
        return;
    }
    let help = match text.rsplit_once(':') {
        Some((host, port)) if is_address(host) && port.parse::<u16>().is_ok() => {
            format!("the port stands in a key of its own: bind = \"{host}\", port = {port}")
        }
        _ => "bind = \"127.0.0.1\" for this machine only, bind = \"0.0.0.0\" for all its addresses".to_owned(),
    };
    resolver.report(Diagnostic::error(node.span, format!("invalid address {text:?} in `bind`")).help(help));
}

/// An address, a name that can be resolved, or one of the ways to write "every address".
fn is_address(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    // `fe80::1%eth0`.
    let (address, _interface) = bare.split_once('%').unwrap_or((bare, ""));
    if matches!(text, "" | "*") || address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // Numbers and dots alone are an address that was mistyped.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    !is_number && text.len() <= 253 && text.trim_end_matches('.').split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_and_names() {
        for good in ["", "*", "127.0.0.1", "::", "[::1]", "fe80::1%eth0", "localhost", "db.internal", "my_host", "0.0.0.0"] {
            assert!(super::is_address(good), "{good}");
        }
        for bad in ["not an address", "127.0.0.1:80", "300.0.0.1", "127.0.0", "a..b", "http://x", "10.0.0.1,10.0.0.2", "[::1"] {
            assert!(!super::is_address(bad), "{bad}");
        }
    }
}
