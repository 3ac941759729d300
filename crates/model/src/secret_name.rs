//! Which variables hold secrets, by their names.
//!
//! A name is taken apart into words (`DB_PASSWORD`, `apiKey`, `spring.datasource.password`), so that `KEYBOARD` or `AUTHOR`
//! are not taken for a key or a login. What only describes a secret (`PASSWORD_FILE`, `TOKEN_TTL`) is none.

/// How sure a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secrecy {
    /// It says nothing.
    None,
    /// A word such as KEY or AUTH, which also has other meanings.
    Weak,
    /// A word such as PASSWORD or TOKEN.
    Strong,
}

const STRONG: &[&str] = &[
    "PASSWORD",
    "PASSWORDS",
    "PASSWD",
    "PASSPHRASE",
    "PASSCODE",
    "PASS",
    "PWD",
    "SECRET",
    "SECRETS",
    "TOKEN",
    "TOKENS",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "CRED",
    "DSN",
    "BEARER",
    "AUTHORIZATION",
    "APIKEYS",
    "PASSKEY",
    "PSK",
    "MNEMONIC",
    // Redis.
    "REQUIREPASS",
    "MASTERAUTH",
];
const WEAK: &[&str] = &["KEY", "KEYS", "AUTH", "COOKIE", "COOKIES", "SALT", "SIGNATURE", "PRIVATE", "PINCODE"];
/// Strong as the last word of a name with something before it: REDIS_PW, but not PW_TEST_REPORTER.
const LAST: &[&str] = &["PW", "PSW", "PSWD"];
/// Before PIN as the last word: one that a person types. The pin of a chip (LED_PIN) is not a secret.
const TYPED: &[&str] = &[
    "ACCESS",
    "ADMIN",
    "CARD",
    "DEVICE",
    "DOOR",
    "HSM",
    "LOGIN",
    "LOCK",
    "PARENTAL",
    "SECURITY",
    "SIM",
    "SMARTCARD",
    "TOKEN",
    "UNLOCK",
    "USER",
    "VOICEMAIL",
];
/// Before SEED as the last word: what one-time codes and keys are made from. A RANDOM_SEED is none.
const SEEDED: &[&str] = &["OTP", "TOTP", "HOTP", "MFA", "WALLET", "KEY", "SECRET", "MASTER"];
/// Before CODE: a number that gives access.
const CODES: &[&str] = &["PIN", "ACCESS", "SECURITY", "UNLOCK", "RECOVERY", "OTP", "MFA"];
/// Anywhere in a word.
const WITHIN: &[&str] = &["PASSWORD", "PASSWD", "PASSPHRASE"];
/// At the end of a word with something before it: AUTHTOKEN, CLIENTSECRET.
const ENDS: &[&str] = &["TOKEN", "SECRET", "CREDENTIAL", "CREDENTIALS"];
/// Before KEY, as a word of its own or joined to it: a key that opens something.
const OPENS: &[&str] = &[
    "API",
    "ACCESS",
    "SECRET",
    "PRIVATE",
    "MASTER",
    "SIGNING",
    "ENCRYPTION",
    "SSH",
    "AUTH",
    "LICENSE",
    "ACCOUNT",
    "SHARED",
    "ADMIN",
    "SERVICE",
    "CLIENT",
    "APP",
];
/// Before KEY: a key that everybody may see, or that opens nothing.
const HARMLESS: &[&str] = &["PUBLIC", "PUBLISHABLE", "PRIMARY", "FOREIGN", "PARTITION", "SORT", "CACHE", "ROUTING", "HOT"];
/// Before PASS or PWD in one word: DBPASS, but not COMPASS.
const LOGINS: &[&str] = &[
    "DB", "PG", "SMTP", "IMAP", "MAIL", "EMAIL", "FTP", "USER", "MYSQL", "REDIS", "ROOT", "ADMIN", "HTTP", "PROXY", "MQTT",
    "AMQP", "LDAP", "RABBITMQ", "MONGO", "POSTGRES", "SSH", "SSL", "KEY", "STORE", "SUDO", "SA",
];
/// As the last word: the value tells about a secret and is none.
const DESCRIBES: &[&str] = &[
    "FILE",
    "FILES",
    "FILENAME",
    "PATH",
    "DIR",
    "DIRECTORY",
    "FOLDER",
    "SOCK",
    "SOCKET",
    "TTL",
    "EXPIRY",
    "EXPIRES",
    "EXPIRATION",
    "LIFETIME",
    "AGE",
    "LENGTH",
    "SIZE",
    "BITS",
    "ROUNDS",
    "COUNT",
    "LIMIT",
    "ENABLED",
    "DISABLED",
    "REQUIRED",
    "ALGORITHM",
    "ALGO",
    "ALG",
    "METHOD",
    "METHODS",
    "MECHANISM",
    "PROVIDER",
    "TYPE",
    "DOMAIN",
    "HOST",
    "PORT",
    "TIMEOUT",
    "SECONDS",
    "MINUTES",
    "HOURS",
    "DAYS",
    "NAME",
    "USER",
    "USERNAME",
    "ISSUER",
    "AUDIENCE",
    "POLICY",
    "SAMESITE",
    "SECURE",
    "HTTPONLY",
    "HEADER",
    "PREFIX",
    "URL",
    "URI",
    "ENDPOINT",
    "NETWORK",
    "SUBNET",
    "IP",
    "ADDR",
    "ADDRESS",
    "CIDR",
    "REGISTRY",
    "REPO",
    "MODE",
    "VERSION",
    "RATE",
    "BUDGET",
    "HASHER",
    "STORE",
];
/// With TOKENS: a language model's.
const COUNTS: &[&str] = &["MAX", "MIN", "NUM", "LIMIT", "PER", "CONTEXT", "OUTPUT", "INPUT"];

/// What a name says of its value.
#[must_use]
pub fn secrecy(name: &str) -> Secrecy {
    // The working directories of a shell.
    if name.eq_ignore_ascii_case("PWD") || name.eq_ignore_ascii_case("OLDPWD") {
        return Secrecy::None;
    }
    let words = words(name);
    if words.last().is_some_and(|last| DESCRIBES.contains(&last.as_str())) {
        return Secrecy::None;
    }
    let counts = words.iter().any(|word| COUNTS.contains(&word.as_str()));
    let mut found = Secrecy::None;
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| words.get(at)).map_or("", String::as_str);
        let is_last = at + 1 == words.len();
        found = found.max(match word.as_str() {
            "TOKENS" if counts => Secrecy::None,
            "KEY" | "KEYS" if HARMLESS.contains(&before) => Secrecy::None,
            "KEY" | "KEYS" if OPENS.contains(&before) => Secrecy::Strong,
            word if is_last && !before.is_empty() && LAST.contains(&word) => Secrecy::Strong,
            "JWT" if is_last => Secrecy::Weak,
            "PIN" if is_last && (words.len() == 1 || TYPED.contains(&before)) => Secrecy::Weak,
            "CODE" | "CODES" if is_last && CODES.contains(&before) => Secrecy::Weak,
            "SEED" if is_last && SEEDED.contains(&before) => Secrecy::Strong,
            word if STRONG.contains(&word) || is_compound(word) => Secrecy::Strong,
            word if WEAK.contains(&word) => Secrecy::Weak,
            _ => Secrecy::None,
        });
    }
    found
}

/// Whether a variable's name says that its value is a secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    secrecy(name) != Secrecy::None
}

fn is_compound(word: &str) -> bool {
    let joined = |end: &str, heads: &[&str]| word.strip_suffix(end).is_some_and(|head| heads.contains(&head));
    WITHIN.iter().any(|part| word.contains(part))
        || ENDS.iter().any(|end| word.ends_with(end))
        || joined("KEY", OPENS)
        || joined("PASS", LOGINS)
        || joined("PWD", LOGINS)
        || joined("PW", LOGINS)
}

/// The words of a name in capitals, numbers at their ends taken off.
fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = name.chars().collect();
    let mut end = |word: &mut String| {
        let whole = std::mem::take(word);
        let bare = whole.trim_end_matches(|c: char| c.is_ascii_digit());
        if !bare.is_empty() {
            words.push(bare.to_owned());
        }
    };
    for (at, c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            end(&mut word);
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| chars.get(at)).copied().unwrap_or('_');
        let after = chars.get(at + 1).copied().unwrap_or('_');
        // apiKey, and APIKey.
        let begins = c.is_ascii_uppercase()
            && (before.is_ascii_lowercase() || (before.is_ascii_uppercase() && after.is_ascii_lowercase()));
        if begins {
            end(&mut word);
        }
        word.push(c.to_ascii_uppercase());
    }
    end(&mut word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let strong = [
            "PASSWORD",
            "DB_PASSWORD",
            "PGPASSWORD",
            "password",
            "dbPassword",
            "MYSQL_PWD",
            "SMTP_PASS",
            "DB_PASS1",
            "DBPASS",
            "USER_PASSWD",
            "KEY_PASSPHRASE",
            "JWT_SECRET",
            "SECRETS",
            "clientSecret",
            "CLIENTSECRET",
            "GITHUB_TOKEN",
            "authToken",
            "NPM_AUTHTOKEN",
            "API_TOKENS",
            "STRIPE_SECRET_KEY",
            "api_key",
            "apiKey",
            "APIKey",
            "APIKEY",
            "ACCESSKEY",
            "AWS_ACCESS_KEY_ID",
            "SSH_PRIVATE_KEY",
            "SENTRY_DSN",
            "DB_DSN",
            "GOOGLE_CREDENTIALS",
            "CREDENTIAL",
            "LDAP_CREDS",
            "HTTP_AUTHORIZATION",
            "spring.datasource.password",
            "AccountKey",
            "SharedAccessKey",
            "NEXT_PUBLIC_API_KEY",
            "PASSWORD_HASH",
            "REDIS_PW",
            "db-pw",
            "DBPW",
            "RootPw",
            "MAIL_PSWD",
            "GPG_PASSPHRASE",
            "SSHPASSPHRASE",
            "WIFI_PSK",
            "OTP_SEED",
            "WALLET_SEED",
            "LOGIN_PASSKEY",
            "WALLET_MNEMONIC",
        ];
        let weak = [
            "KEY",
            "ENC_KEY",
            "STRIPE_KEY2",
            "NEO4J_AUTH",
            "REDISCLI_AUTH",
            "RABBITMQ_ERLANG_COOKIE",
            "SESSION_COOKIE",
            "HASH_SALT",
            "URL_SIGNATURE",
            "NPM_PRIVATE",
            "PIN",
            "PIN_CODE",
            "PINCODE",
            "USER_PIN",
            "cardPin",
            "DOOR_ACCESS_CODE",
            "RECOVERY_CODES",
            "SERVICE_JWT",
        ];
        let harmless = [
            "PWD",
            "OLDPWD",
            "PATH",
            "PORT",
            "MONKEY_ISLAND",
            "KEYBOARD",
            "KEYBOARD_LAYOUT",
            "AUTHOR",
            "GIT_AUTHOR_NAME",
            "AUTHORITY",
            "PASSENGER",
            "JWT_LEEWAY",
            "PW_DIR",
            "PW_TEST_HTML_REPORT_OPEN",
            "PWDEBUG",
            "PW_BROWSERS",
            "PINNED_VERSION",
            "LED_PIN",
            "PIN_MEMORY",
            "PING_URL",
            "SPIN",
            "COUNTRY_CODE",
            "CODE",
            "EXIT_CODE",
            "COMPASS",
            "BYPASS",
            "KEYSPACE",
            "KEYCLOAK_URL",
            "TURKEY",
            "SECRETARY",
            "TOKENIZER",
            "TOKENIZERS_PARALLELISM",
            "MAX_TOKENS",
            "TOKENS_PER_MINUTE",
            "PASSWORD_FILE",
            "POSTGRES_PASSWORD_FILE",
            "TOKEN_TTL",
            "AUTH_URL",
            "AUTH_ENABLED",
            "POSTGRES_HOST_AUTH_METHOD",
            "SSH_AUTH_SOCK",
            "CSRF_COOKIE_SECURE",
            "SESSION_COOKIE_NAME",
            "COOKIECUTTER",
            "BASALT",
            "SALTSTACK",
            "STRIPE_PUBLIC_KEY",
            "STRIPE_PUBLISHABLE_KEY",
            "PRIMARY_KEY",
            "XAUTHORITY",
            "DATABASE_URL",
            "USER",
            "HOME",
            "PRIVATE_NETWORK",
            "",
            "_",
            "42",
            "ünïcode",
        ];
        for (names, expected) in [(&strong[..], Secrecy::Strong), (&weak[..], Secrecy::Weak), (&harmless[..], Secrecy::None)] {
            for name in names {
                assert_eq!(secrecy(name), expected, "{name}");
            }
        }
    }
}
