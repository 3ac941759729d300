//! Which route a path takes: the longest one that matches, and of two equally long ones the exact one. Pure.

use std::sync::Arc;

use devrun_model::Route;

/// The routes of one gateway.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// The first that matches is the one.
    sorted: Vec<Route>,
    /// What the log calls each of them: its path.
    labels: Vec<Arc<str>>,
}

impl RouteTable {
    /// Of two routes on one path the first counts; `check` refuses such a file.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut sorted: Vec<Route> = routes.into_iter().collect();
        sorted.sort_by_key(|route| route.path.rank());
        Self { labels: sorted.iter().map(|route| route.path.to_string().into()).collect(), sorted }
    }
    /// The route of a path, and what the log calls it.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<(&Route, &Arc<str>)> {
        self.sorted.iter().zip(&self.labels).find(|(route, _)| route.path.matches(path))
    }
    /// All routes, in the order in which they are tried.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{RoutePattern, RouteTarget};
    use proptest::prelude::*;

    fn table(paths: &[&str]) -> RouteTable {
        RouteTable::new(paths.iter().map(|path| Route {
            path: RoutePattern::parse(path).unwrap(),
            target: RouteTarget::Reply { status: 200 },
            max_body: None,
        }))
    }

    fn chosen(table: &RouteTable, path: &str) -> Option<String> {
        table.find(path).map(|(_, label)| label.to_string())
    }

    #[test]
    fn the_longest_path_wins_and_the_exact_one_of_two() {
        let table = table(&["/", "/api/*", "/api/v1/*", "/api", "/ws", "/static/app.js", "/static/*"]);
        for (path, route) in [
            ("/", "/"),
            ("/index.html", "/"),
            ("/api", "/api"),
            ("/api/", "/api/*"),
            ("/api/v1", "/api/v1/*"),
            ("/api/v1/x", "/api/v1/*"),
            ("/api/v2/x", "/api/*"),
            ("/apix", "/"),
            ("/ws", "/ws"),
            ("/wsfoo", "/"),
            ("/ws/x", "/"),
            ("/static/app.js", "/static/app.js"),
            ("/static/app.css", "/static/*"),
        ] {
            assert_eq!(chosen(&table, path).as_deref(), Some(route), "{path}");
        }
    }

    #[test]
    fn without_a_catch_all_there_may_be_no_route() {
        let table = table(&["/api/*"]);
        assert_eq!(chosen(&table, "/"), None);
        assert_eq!(chosen(&table, "/apix"), None);
        assert_eq!(chosen(&RouteTable::default(), "/"), None);
    }

    fn segments() -> impl Strategy<Value = String> {
        proptest::collection::vec("[ab]{1,2}", 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        /// Whatever the order of the file, the same route is chosen, and none that matches is longer.
        #[test]
        fn the_choice_is_the_longest_match_in_any_order(
            mut paths in proptest::collection::btree_set((segments(), any::<bool>()), 1..8)
                .prop_map(|paths| paths.into_iter().collect::<Vec<_>>()),
            asked in segments(),
            seed in any::<u64>(),
        ) {
            let text = |(path, below): &(String, bool)| {
                if *below && path != "/" { format!("{path}/*") } else { path.clone() }
            };
            paths.dedup_by_key(|path| text(path));
            let words: Vec<String> = paths.iter().map(text).collect();
            let forward = table(&words.iter().map(String::as_str).collect::<Vec<_>>());
            let mut turned = words.clone();
            turned.rotate_left((seed as usize) % words.len());
            turned.reverse();
            let backward = table(&turned.iter().map(String::as_str).collect::<Vec<_>>());
            let choice = chosen(&forward, &asked);
            prop_assert_eq!(&choice, &chosen(&backward, &asked));
            let longest = words
                .iter()
                .map(|word| RoutePattern::parse(word).unwrap())
                .filter(|pattern| pattern.matches(&asked))
                .map(|pattern| pattern.base().len())
                .max();
            prop_assert_eq!(choice.map(|choice| RoutePattern::parse(&choice).unwrap().base().len()), longest);
        }

        /// `/x/*` is `/x` and what lies below it, and nothing else.
        #[test]
        fn a_prefix_ends_at_a_segment(path in "/[a-c]{1,3}", rest in "[a-c/]{0,4}") {
            let asked = format!("{path}{rest}");
            let matches = table(&[&format!("{path}/*")]).find(&asked).is_some();
            prop_assert_eq!(matches, rest.is_empty() || rest.starts_with('/'));
        }
    }
}
