//! The headers that a proxy removes, adds and keeps (RFC 9110, 7.6.1). Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::client_peer::Peer;

/// Of one connection only. `Trailer` is not among them: it describes the message.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Never taken away, whatever `Connection` says: what the request is about.
static END_TO_END: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE];
/// What `Connection` mostly says: not the names of headers, or of those above.
const CONNECTION_OPTIONS: [&str; 3] = ["keep-alive", "close", "upgrade"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What a request's sender is asked to be known by.
pub(crate) struct Sender<'a> {
    /// The other end of the connection. What one on this machine says of those behind it is believed.
    pub peer: &'a Peer,
    /// The host that was asked for.
    pub host: Option<&'a str>,
    /// What was removed from the front of the path.
    pub stripped: Option<&'a str>,
}

impl Sender<'_> {
    /// The host as a header's value; mostly the request has it already.
    pub(crate) fn host_header(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let host = self.host?;
        let own = headers.get(header::HOST).filter(|value| *value == host);
        own.cloned().or_else(|| HeaderValue::from_str(host).ok())
    }
}

/// The protocol that a request wants to change to. A change to HTTP/2 is none: behind it the sender would talk to the service
/// past all routes.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = listed(headers, &header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"));
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let protocol = protocols.next().filter(|_| asked)?;
    let text = protocol.to_str().ok()?;
    let is_http = text.split(',').any(|word| word.trim().to_ascii_lowercase().starts_with("h2"));
    (protocols.next().is_none() && !is_http).then(|| protocol.clone())
}

fn listed<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).map(str::trim)
}

/// Removes what belongs to one connection, the headers that `Connection` names among it. `upgrade`: the protocol that is
/// changed to stays.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    let named: Vec<HeaderName> = listed(headers, &header::CONNECTION)
        .filter(|word| !CONNECTION_OPTIONS.iter().any(|option| word.eq_ignore_ascii_case(option)))
        .filter_map(|word| word.parse().ok())
        .collect();
    let wants_trailers = listed(headers, &header::TE).any(|word| word.eq_ignore_ascii_case("trailers"));
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    for name in named.iter().filter(|name| !END_TO_END.contains(name)) {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
}

/// Makes a request's headers those that the service gets.
pub(crate) fn for_upstream(headers: &mut HeaderMap, sender: &Sender<'_>, upgrade: Option<&HeaderValue>) {
    remove_hop_by_hop(headers, upgrade);
    // Whoever reads the body answers it.
    headers.remove(header::EXPECT);
    // Servers that turn `-` into `_` (CGI, WSGI, PHP) cannot tell these from ours.
    let disguised: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .filter(|name| {
            let plain = name.as_str().replace('_', "-");
            plain.starts_with("x-forwarded-") || plain == "x-real-ip"
        })
        .cloned()
        .collect();
    for name in disguised {
        headers.remove(name);
    }
    if !sender.peer.is_local {
        for name in [&FORWARDED_FOR, &FORWARDED_PROTO, &FORWARDED_HOST, &FORWARDED_PREFIX, &REAL_IP, &header::FORWARDED] {
            headers.remove(name);
        }
    }
    let peer = &sender.peer.name;
    let chain: Vec<&str> = listed(headers, &FORWARDED_FOR).filter(|part| !part.is_empty()).collect();
    if chain.is_empty() {
        headers.insert(FORWARDED_FOR, peer.clone());
    } else {
        let chain = format!("{}, {}", chain.join(", "), sender.peer.address);
        set(headers, FORWARDED_FOR, chain);
    }
    let protocol = if sender.peer.is_secure { "https" } else { "http" };
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(protocol));
    }
    if let (Some(host), false) = (sender.host_header(headers), headers.contains_key(FORWARDED_HOST)) {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Some(prefix) = sender.stripped {
        set(headers, FORWARDED_PREFIX, prefix.to_owned());
    }
    // RFC 7239: an IPv6 address and a host with a port stand in quotes.
    let (open, close) = if sender.peer.address.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    let peer = peer.to_str().unwrap_or_default();
    let own = match sender.host {
        Some(host) => ["for=", open, peer, close, ";host=\"", host, "\";proto=", protocol].concat(),
        None => ["for=", open, peer, close, ";proto=", protocol].concat(),
    };
    let before: Vec<&str> = headers.get_all(header::FORWARDED).iter().filter_map(|value| value.to_str().ok()).collect();
    let chain = if before.is_empty() { own } else { format!("{}, {own}", before.join(", ")) };
    set(headers, header::FORWARDED, chain);
}

/// A value that cannot be a header's is one that the sender made up; the header is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    match HeaderValue::try_from(value) {
        Ok(value) => {
            headers.insert(name, value);
        }
        Err(_) => {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn sent(pairs: &[(&str, &str)], is_local: bool) -> HeaderMap {
        let mut map = headers(pairs);
        let peer = Peer::new([10, 0, 0, 7].into(), is_local);
        for_upstream(&mut map, &Sender { peer: &peer, host: Some("shop.test:8080"), stripped: None }, None);
        map
    }

    #[test]
    fn what_belongs_to_the_connection_is_removed() {
        let map = sent(
            &[
                ("connection", "keep-alive, X-Secret, host"),
                ("keep-alive", "5"),
                ("x-secret", "1"),
                ("te", "trailers, gzip"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("proxy-authorization", "x"),
                ("expect", "100-continue"),
                ("host", "shop.test:8080"),
                ("accept", "*/*"),
            ],
            false,
        );
        for name in ["connection", "keep-alive", "x-secret", "transfer-encoding", "upgrade", "proxy-authorization", "expect"] {
            assert!(!map.contains_key(name), "{name}");
        }
        assert_eq!(map["te"], "trailers");
        assert_eq!(map["host"], "shop.test:8080");
        assert_eq!(map["accept"], "*/*");
    }

    #[test]
    fn a_stranger_cannot_say_for_whom_it_asks() {
        let claims = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x_forwarded_for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
        ];
        let map = sent(&claims, false);
        assert_eq!(map["x-forwarded-for"], "10.0.0.7");
        assert_eq!(map["x-forwarded-proto"], "http");
        assert_eq!(map["x-forwarded-host"], "shop.test:8080");
        assert_eq!(map["forwarded"], "for=10.0.0.7;host=\"shop.test:8080\";proto=http");
        assert!(!map.contains_key("x_forwarded_for") && !map.contains_key("x-real-ip"));
    }

    #[test]
    fn a_proxy_on_this_machine_is_believed() {
        let map = sent(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("x_forwarded_for", "6")], true);
        assert_eq!(map["x-forwarded-for"], "1.2.3.4, 10.0.0.7");
        assert_eq!(map["x-forwarded-proto"], "https");
        assert!(!map.contains_key("x_forwarded_for"));
    }

    #[test]
    fn only_real_upgrades_pass() {
        let of = |pairs: &[(&str, &str)]| upgrade_of(&headers(pairs)).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(of(&[("connection", "Upgrade"), ("upgrade", "websocket")]).as_deref(), Some("websocket"));
        assert_eq!(of(&[("connection", "keep-alive, upgrade"), ("upgrade", "tcp")]).as_deref(), Some("tcp"));
        assert_eq!(of(&[("upgrade", "websocket")]), None, "not asked for");
        assert_eq!(of(&[("connection", "upgrade"), ("upgrade", "h2c")]), None);
        assert_eq!(of(&[("connection", "upgrade"), ("upgrade", "websocket, H2C")]), None);
        assert_eq!(of(&[("connection", "upgrade"), ("upgrade", "a"), ("upgrade", "b")]), None);
        let mut map = headers(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        let protocol = upgrade_of(&map);
        remove_hop_by_hop(&mut map, protocol.as_ref());
        assert_eq!((&map["connection"], &map["upgrade"]), (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap()));
    }
}
