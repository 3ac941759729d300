//! What is known of an image that a recipe takes the place of: ports, directories, variables.

/// What a variable of an image becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Becomes {
    User,
    Password,
    Database,
    /// A key of `set`.
    Set(&'static str),
    /// A key of `set` that names a server, at its main port where none stands there.
    SetHost(&'static str),
    /// The host of a server in one key of `set`, and its port in another.
    SetHostAndPort(&'static str, &'static str),
    /// Nothing, with the reason.
    Nothing(&'static str),
    /// `USER/PASSWORD`.
    Login,
    /// `USER:PASSWORD`, and more of them behind a semicolon.
    Account,
    /// Used as the password where no other is given (the engine's superuser).
    RootPassword,
}

/// An image that a recipe takes the place of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownImage {
    pub recipe: &'static str,
    /// Ports in the container that are the main one.
    pub main: &'static [u16],
    /// Further ports in the container and the recipe's names for them.
    pub named: &'static [(u16, &'static str)],
    /// Where the image keeps its data.
    pub data: &'static [&'static str],
    pub env: &'static [(&'static str, Becomes)],
    /// Configuration files: path in the container, name that the recipe reads in its run dir.
    pub config: &'static [(&'static str, &'static str)],
    /// The command's words that start the server itself.
    pub program: &'static [&'static str],
    /// How `-c NAME=VALUE` or `--NAME VALUE` is written.
    pub settings: Settings,
}

/// How an engine takes settings on its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settings {
    None,
    /// `-c name=value`.
    Postgres,
    /// `--name value…`.
    Redis,
    /// `--name=value`, and files of options.
    Mariadb,
}

/// An image with nothing but ports and data.
pub(super) const fn plain(recipe: &'static str, main: &'static [u16], data: &'static [&'static str]) -> KnownImage {
    KnownImage { recipe, main, named: &[], data, env: &[], config: &[], program: &[], settings: Settings::None }
}
