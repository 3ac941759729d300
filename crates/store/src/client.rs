//! Which addresses may be asked, and the client that asks exactly those.
//!
//! Owns: https only, the refusal of redirects into networks that are not public, proxies of the caller, and the TLS provider.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use reqwest::Url;

use super::fetch_options::FetchOptions;
use super::transfer::{FetchError, TransferLimits};

/// Allows plain http to loopback; for tests.
const ALLOW_HTTP: &str = "DEVRUN_TEST_ALLOW_HTTP";

/// A client for this one hop. The addresses that were looked at are the ones it connects to, so that a name cannot change
/// its mind between the check and the connection.
///
/// # Errors
/// `TryNextSource` where the address is no use, `Fatal` where a redirect leads somewhere it must not.
pub async fn of_hop(
    url: &Url,
    redirected: bool,
    limits: &TransferLimits,
    options: &FetchOptions,
) -> Result<reqwest::Client, FetchError> {
    let away = FetchError::TryNextSource;
    let fatal = FetchError::integrity;
    let bare = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let literal: Option<IpAddr> = bare.parse().ok();
    let http_allowed = options.env.get(ALLOW_HTTP).is_some_and(|value| value == "1");
    match url.scheme() {
        "https" => {}
        "http" if http_allowed && literal.is_some_and(|address| address.is_loopback()) => {}
        _ if redirected => return Err(fatal(format!("it redirects to {url}, which is not https"))),
        _ => return Err(away(format!("{url} is not https"))),
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let proxies = proxies(&options.env).map_err(away)?;
    let behind_proxy = !proxies.is_empty();
    let addresses: Vec<SocketAddr> = match literal {
        Some(address) => vec![SocketAddr::new(address, port)],
        // The proxy looks names up, and this machine often cannot.
        None if behind_proxy => Vec::new(),
        None => match tokio::time::timeout(limits.connect, tokio::net::lookup_host((bare, port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return Err(away(format!("{bare} cannot be reached: {error}"))),
            Err(_) => return Err(away(format!("{bare} cannot be reached: its name is not answered"))),
        },
    };
    // Loopback under the test flag is what the tests' own servers are; they redirect too.
    let tolerated = |address: &SocketAddr| url.scheme() == "http" && http_allowed && address.ip().is_loopback();
    if redirected && let Some(inside) = addresses.iter().find(|address| !tolerated(address) && is_local(address.ip())) {
        return Err(fatal(format!("it redirects to {}, which is not on the public network", inside.ip())));
    }
    install_crypto_provider();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits.connect)
        .user_agent(concat!("devrun/", env!("CARGO_PKG_VERSION")));
    for proxy in proxies {
        builder = builder.proxy(proxy);
    }
    if literal.is_none() && !addresses.is_empty() {
        builder = builder.resolve_to_addrs(bare, &addresses);
    }
    // A registry's client may bring certificates of its own, so this too gives way.
    builder.build().map_err(|error| {
        away(format!(
            "secure connections cannot be made: {} (install the package ca-certificates, or name a bundle with SSL_CERT_FILE)",
            root_cause(&error)
        ))
    })
}

/// TLS needs a provider before any client is made; whoever is first sets it, and all set the same.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _set_meanwhile = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The caller's proxies, from the caller's environment and not from ours.
fn proxies(env: &BTreeMap<String, String>) -> Result<Vec<reqwest::Proxy>, String> {
    let given = |names: [&str; 2]| names.iter().find_map(|name| env.get(*name)).filter(|value| !value.is_empty());
    let except = given(["no_proxy", "NO_PROXY"]).and_then(|list| reqwest::NoProxy::from_string(list));
    let mut proxies = Vec::new();
    for names in [["https_proxy", "HTTPS_PROXY"], ["all_proxy", "ALL_PROXY"]] {
        if let Some(url) = given(names) {
            let proxy =
                reqwest::Proxy::https(url).map_err(|error| format!("invalid proxy in {}: {}", names[1], root_cause(&error)))?;
            proxies.push(proxy.no_proxy(except.clone()));
        }
    }
    Ok(proxies)
}

/// Addresses that a vendor's redirect has no business with.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.is_documentation()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
                || a >= 240
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_local(IpAddr::V4(v4)),
            None => {
                let first = v6.segments()[0];
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || (first & 0xfe00) == 0xfc00
                    || (first & 0xffc0) == 0xfe80
                    // The translated forms of an IPv4 address: what is behind them is not seen from here.
                    || first == 0x2002
                    || v6.segments()[..2] == [0x64, 0xff9b]
            }
        },
    }
}

/// The innermost cause, which is the one that says something.
#[must_use]
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_known() {
        for local in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "255.255.255.255",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(!is_local(public.parse().unwrap()), "{public}");
        }
    }
}
