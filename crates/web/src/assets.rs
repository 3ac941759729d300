//! The page: plain modules and one style sheet, compiled in. Nothing is fetched from elsewhere, so it works offline.

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its path.
    pub path: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Every file.
pub const ASSETS: &[Asset] = &[
    Asset { path: "/", kind: HTML, bytes: include_bytes!("../assets/index.html") },
    Asset { path: "/app.css", kind: CSS, bytes: include_bytes!("../assets/app.css") },
    Asset { path: "/app.js", kind: JS, bytes: include_bytes!("../assets/app.js") },
    Asset { path: "/dom.js", kind: JS, bytes: include_bytes!("../assets/dom.js") },
    Asset { path: "/server.js", kind: JS, bytes: include_bytes!("../assets/server.js") },
    Asset { path: "/logs.js", kind: JS, bytes: include_bytes!("../assets/logs.js") },
    Asset { path: "/timeline.js", kind: JS, bytes: include_bytes!("../assets/timeline.js") },
    Asset { path: "/traces.js", kind: JS, bytes: include_bytes!("../assets/traces.js") },
    Asset { path: "/graph.js", kind: JS, bytes: include_bytes!("../assets/graph.js") },
    Asset { path: "/service.js", kind: JS, bytes: include_bytes!("../assets/service.js") },
    Asset { path: "/terminal.js", kind: JS, bytes: include_bytes!("../assets/terminal.js") },
    Asset { path: "/icon.svg", kind: "image/svg+xml", bytes: include_bytes!("../assets/icon.svg") },
];

/// The file of a path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        let total: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        // Uncompressed already below what is allowed compressed.
        assert!(total < 150 * 1024, "{total}");
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{}", asset.path);
            for inert in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!text.contains(inert), "{}: {inert}", asset.path);
            }
        }
        let page = std::str::from_utf8(find("/").unwrap().bytes).unwrap();
        assert!(
            !page.contains("<script>") && !page.contains(" style=") && !page.contains(" onclick="),
            "inline code is refused by the policy"
        );
        assert_eq!(find("/../Cargo.toml"), None);
    }
}
