//! Takes secrets out of what is printed: the values that the plan lists, variables whose names say what they hold, and what a
//! text gives away by its form.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Plan;
use super::secret_name::is_secret;
use super::secret_text::{self, is_switch};

/// What stands in the place of a secret.
pub const MASK: &str = "••••";

/// Masks texts; or, with `--reveal`, hands them on.
#[derive(Debug, Clone, Default)]
pub struct Masker {
    /// Longest first, so that a secret that begins another one leaves no tail of it.
    values: Vec<String>,
    /// Variables that are made from secrets, whatever their names are.
    derived: BTreeSet<String>,
    reveal: bool,
    thorough: bool,
}

impl Masker {
    /// Masks what a plan knows.
    #[must_use]
    pub fn new(plan: &Plan, reveal: bool) -> Self {
        Self { derived: plan.derived.clone(), ..Self::of_values(&plan.masks, reveal) }
    }

    /// Masks these values.
    #[must_use]
    pub fn of_values(values: &BTreeSet<String>, reveal: bool) -> Self {
        let mut values: Vec<String> = values.iter().filter(|value| !value.is_empty()).cloned().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values, reveal, ..Self::default() }
    }

    /// For texts of unknown origin that leave the machine: takes names that are less sure as well.
    #[must_use]
    pub fn thorough(self) -> Self {
        Self { thorough: true, ..self }
    }

    /// A text, secrets in it masked.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if !self.reveal {
            for value in &self.values {
                if text.contains(value.as_str()) {
                    text = text.replace(value.as_str(), MASK);
                }
            }
            let stretches = secret_text::find(&text, self.thorough);
            if !stretches.is_empty() {
                text = cover(&text, stretches);
            }
        }
        text
    }

    /// A variable's value.
    #[must_use]
    pub fn variable(&self, name: &str, value: &str) -> String {
        if self.reveal || is_switch(value) {
            return value.to_owned();
        }
        if is_secret(name) {
            return MASK.to_owned();
        }
        let shown = self.text(value);
        // A value that is too common to be masked wherever it stands (`postgres`) is masked here.
        if shown == value && self.derived.contains(name) { MASK.to_owned() } else { shown }
    }

    /// Several variables.
    #[must_use]
    pub fn variables(&self, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        env.iter().map(|(name, value)| (name.clone(), self.variable(name, value))).collect()
    }

    /// The words of a command: what follows `--password` is masked too.
    #[must_use]
    pub fn words(&self, words: &[String]) -> Vec<String> {
        let mut flag = false;
        let mut masked = Vec::with_capacity(words.len());
        // Which options of one letter are followed by a secret depends on the program, which is a word before.
        let mut short = Vec::new();
        secret_text::short_options(&words.join("\n"), &mut short);
        let mut begin = 0;
        for word in words {
            let value = flag && !word.starts_with("--") && !self.reveal;
            let end = begin + word.len();
            let inside = |found: &&Range<usize>| begin <= found.start && found.end <= end && !self.reveal;
            let own = short.iter().filter(inside).map(|found| found.start - begin..found.end - begin).collect();
            masked.push(if value { MASK.to_owned() } else { self.text(&cover(word, own)) });
            begin = end + 1;
            flag = word.starts_with("--")
                && !word.contains('=')
                && super::secret_name::secrecy(word) == super::secret_name::Secrecy::Strong;
        }
        masked
    }
}

/// Puts the mask over these stretches, which may overlap.
#[must_use]
pub fn cover(text: &str, mut stretches: Vec<Range<usize>>) -> String {
    if stretches.is_empty() {
        return text.to_owned();
    }
    stretches.sort_by_key(|stretch| (stretch.start, stretch.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    let mut pending: Option<Range<usize>> = None;
    let mut write = |stretch: &Range<usize>| {
        let (Some(before), Some(hidden)) = (text.get(done..stretch.start), text.get(stretch.clone())) else { return };
        out.push_str(before);
        // What was masked already stays as it is, with its mask.
        out.push_str(if hidden == MASK { hidden } else { MASK });
        done = stretch.end;
    };
    for stretch in stretches {
        match &mut pending {
            Some(open) if stretch.start <= open.end => open.end = open.end.max(stretch.end),
            _ => {
                if let Some(open) = pending.replace(stretch) {
                    write(&open);
                }
            }
        }
    }
    if let Some(open) = pending {
        write(&open);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Values that everybody uses: masking them wherever they stand would leave nothing to read.
const COMMON: &[&str] = &[
    "admin",
    "administrator",
    "alpha",
    "api",
    "asleep",
    "auto",
    "backend",
    "backing-off",
    "basic",
    "bearer",
    "beta",
    "blocked",
    "changeme",
    "change-me",
    "client",
    "completed",
    "data",
    "database",
    "debug",
    "default",
    "demo",
    "dev",
    "development",
    "elastic",
    "example",
    "failed",
    "false",
    "fetching",
    "frontend",
    "guest",
    "healthy",
    "http",
    "https",
    "info",
    "initialising",
    "kafka",
    "local",
    "localhost",
    "mariadb",
    "minio",
    "minioadmin",
    "mongo",
    "mongodb",
    "mysql",
    "neo4j",
    "node",
    "none",
    "null",
    "pass",
    "passwd",
    "password",
    "postgres",
    "postgresql",
    "private",
    "prod",
    "production",
    "public",
    "python",
    "python3",
    "rabbitmq",
    "redis",
    "root",
    "running",
    "secret",
    "server",
    "service",
    "skipped",
    "sqlite",
    "staging",
    "started",
    "starting",
    "stopped",
    "stopping",
    "string",
    "test",
    "testing",
    "token",
    "true",
    "unhealthy",
    "user",
    "username",
    "waiting",
    "web",
    "worker",
    "127.0.0.1",
    "0.0.0.0",
];

/// Whether a value can be masked wherever it stands: not too short, and not a word or number of other meanings.
#[must_use]
pub fn is_distinctive(value: &str) -> bool {
    let length = value.chars().count();
    let number = value.bytes().all(|byte| byte.is_ascii_digit());
    length >= 4 && !(number && length < 6) && !COMMON.contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(values: &[&str]) -> Masker {
        Masker::of_values(&values.iter().map(|value| (*value).to_owned()).collect(), false)
    }

    #[test]
    fn the_longer_secret_goes_first() {
        let masker = masker(&["abcd", "abcdefgh"]);
        assert_eq!(masker.text("x abcdefgh abcd y"), "x •••• •••• y");
        assert_eq!(masker.variable("A_KEY", "plain"), MASK);
        assert_eq!(masker.variable("A_KEY", ""), "");
        assert_eq!(masker.variable("AUTH", "true"), "true");
        assert_eq!(Masker::of_values(&BTreeSet::from(["abcd".to_owned()]), true).text("abcd"), "abcd");
    }

    #[test]
    fn words_after_an_option_of_their_program() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (line, expected) in [
            ("redis-cli -a S3KRIT ping", "redis-cli -a •••• ping"),
            ("mysql -pS3KRIT", "mysql -p••••"),
            ("app --password S3KRIT -a x", "app --password •••• -a x"),
            ("curl --user a:S3KRIT http://h", "curl --user a:•••• http://h"),
        ] {
            assert_eq!(masker(&[]).words(&words(line)), words(expected));
        }
    }

    #[test]
    fn what_a_text_gives_away() {
        let plain = masker(&[]);
        for (text, expected) in [
            ("redis-cli -h x -a S3KRIT ping", "redis-cli -h x -a •••• ping"),
            ("mysql -u root -pS3KRIT -h x", "mysql -u root -p•••• -h x"),
            ("/usr/bin/mysqldump -p db", "/usr/bin/mysqldump -p db"),
            ("sshpass -p S3KRIT ssh x", "sshpass -p •••• ssh x"),
            ("curl -fsS -u admin:S3KRIT http://h/", "curl -fsS -u admin:•••• http://h/"),
            ("curl -u admin:$PASS http://h/; tar -a x", "curl -u admin:$PASS http://h/; tar -a x"),
            ("run = [\"redis-cli\", \"-a\", \"S3KRIT\"]", "run = [\"redis-cli\", \"-a\", \"••••\"]"),
            ("docker run -p 80:80 -u 1000:1000 x", "docker run -p 80:80 -u 1000:1000 x"),
            ("postgres://u:dsnPassw0rd@h/db", "postgres://u:••••@h/db"),
            ("postgres://postgres:postgres@127.0.0.1:5432/postgres", "postgres://postgres:••••@127.0.0.1:5432/postgres"),
            ("redis://:p%40ss@h:6379/0 and amqp://a:b@h", "redis://:••••@h:6379/0 and amqp://a:••••@h"),
            ("mongodb+srv://u:p@h1,h2/d?authSource=admin", "mongodb+srv://u:••••@h1,h2/d?authSource=admin"),
            ("amqp://a:b@h1,amqp://c:d@h2", "amqp://a:••••@h1,amqp://c:••••@h2"),
            ("https://abcdef123@github.com/x.git", "https://••••@github.com/x.git"),
            ("https://ghp_xxx@github.com", "https://••••@github.com"),
            ("wss://a1B2c3D4e5F6g7H8i9J0@feed.example.com/x", "wss://••••@feed.example.com/x"),
            ("ssh://git@github.com/x.git", "ssh://git@github.com/x.git"),
            ("https://abcdef123:x-oauth-basic@github.com/x", "https://••••:x-oauth-basic@github.com/x"),
            ("redis://:p@ss/w0rd@host", "redis://:••••@host"),
            ("postgres://u:p/w?x#y@h:5432/d", "postgres://u:••••@h:5432/d"),
            ("postgres://user@host/db", "postgres://user@host/db"),
            ("https://registry:5000/img@sha256:abc", "https://registry:5000/img@sha256:abc"),
            ("http://h:80/@x", "http://h:80/@x"),
            ("u:secretpw@tcp(127.0.0.1:3306)/db", "u:••••@tcp(127.0.0.1:3306)/db"),
            ("jdbc:postgresql://h/d?user=u&password=hunter2&ssl=true", "jdbc:postgresql://h/d?user=u&password=••••&ssl=true"),
            ("host=h user=u password=hunter2 dbname=d", "host=h user=u password=•••• dbname=d"),
            ("host=h password='a b' dbname=d", "host=h password='••••' dbname=d"),
            ("Server=h;Uid=u;Pwd=a;b;Database=d", "Server=h;Uid=u;Pwd=••••;Database=d"),
            ("Driver=x;PWD={p;w};Server=h", "Driver=x;PWD={••••};Server=h"),
            ("h:6379,password=xyz,ssl=True", "h:6379,password=••••,ssl=True"),
            ("AccountName=a;AccountKey=Zm9v+/==;Suffix=s", "AccountName=a;AccountKey=••••;Suffix=s"),
            ("{\"password\": \"a\\\"b\", \"x\": 1}", "{\"password\": \"••••\", \"x\": 1}"),
            ("password = \"x y\"", "password = \"••••\""),
            ("app --password hunter2 --port 80", "app --password •••• --port 80"),
            ("app --password --port 80", "app --password --port 80"),
            ("invalid token: unexpected end", "invalid token: unexpected end"),
            ("max_tokens=4096 sort_key=id keyboard=us", "max_tokens=4096 sort_key=id keyboard=us"),
            ("password=${DB_PASSWORD}", "password=${DB_PASSWORD}"),
            ("push with ghp_abcdefghijklmnopqrstuvwxyz0123456789!", "push with ••••!"),
            ("STRIPE sk_live_zzTOPSECRETzz.", "STRIPE ••••"),
            ("key AKIAIOSFODNN7EXAMPLE, AKIA", "key ••••, AKIA"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1", "••••"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
                "-----BEGIN RSA PRIVATE KEY-----••••-----END RSA PRIVATE KEY-----",
            ),
            ("nothing: to see = here @ all ://", "nothing: to see = here @ all ://"),
            ("é=ü://ß@ö:ä", "é=ü://ß@ö:ä"),
        ] {
            assert_eq!(plain.text(text), expected, "{text}");
            assert_eq!(plain.text(expected), expected, "twice: {text}");
        }
    }

    #[test]
    fn thorough_takes_names_that_are_less_sure() {
        let thorough = masker(&[]).thorough();
        for (text, expected) in [
            ("2026-01-01 STRIPE_KEY=abc12 next", "2026-01-01 STRIPE_KEY=•••• next"),
            ("MYSQL_PWD=a", "MYSQL_PWD=••••"),
            ("\"api_key\":\"v\"", "\"api_key\":\"••••\""),
            ("{\\\"secret\\\":\\\"v\\\"}", "{\\\"secret\\\":\\\"••••\\\"}"),
            ("smtp_pass: hunter2", "smtp_pass: ••••"),
            ("Authorization: Bearer abc.def", "Authorization: ••••"),
            ("KeyError: 'DATABASE_URL'", "KeyError: 'DATABASE_URL'"),
            ("Missing required key: OPENAI_API_KEY", "Missing required key: OPENAI_API_KEY"),
            ("SyntaxError: Unexpected token: '}'", "SyntaxError: Unexpected token: '}'"),
            ("--- PASS: TestLogin2 (0.00s)", "--- PASS: TestLogin2 (0.00s)"),
            ("password: must be 8 characters", "password: must be 8 characters"),
            ("foreign key: integer, auth: failed for bob", "foreign key: integer, auth: failed for bob"),
            ("PASS_RATE=0.95 TOKEN_BUDGET=9", "PASS_RATE=0.95 TOKEN_BUDGET=9"),
            ("auth=true key=1 PORT=80 KEYBOARD=us", "auth=true key=1 PORT=80 KEYBOARD=us"),
        ] {
            assert_eq!(thorough.text(text), expected, "{text}");
        }
    }

    #[test]
    fn common_values_are_not_masked_everywhere() {
        for value in ["postgres", "Postgres", "healthy", "backend", "true", "1", "abc", "5432", "localhost", ""] {
            assert!(!is_distinctive(value), "{value}");
        }
        for value in ["hunter2", "abcd", "123456", "postgres1"] {
            assert!(is_distinctive(value), "{value}");
        }
    }

    #[test]
    fn words_after_a_flag() {
        let words = |list: &[&str]| masker(&[]).words(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).join(" ");
        assert_eq!(words(&["app", "--db-password", "postgres", "x"]), "app --db-password •••• x");
        assert_eq!(words(&["app", "--token=abc", "--secret", "--x", "y"]), "app --token=•••• --secret --x y");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "([a-z:/@=;&{}\"'\\\\ -]|password|://|é|\\PC){0,60}") {
            let once = masker(&["abcd"]).thorough().text(&text);
            proptest::prop_assert!(!once.contains("abcd"));
        }
    }
}
