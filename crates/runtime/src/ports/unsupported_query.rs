//! The query for listeners on systems that have none: it cannot be made, so its users connect instead.

/// No one can be asked here.
#[derive(Debug)]
pub enum UnsupportedListenerQuery {}

impl UnsupportedListenerQuery {
    /// Always an error.
    ///
    /// # Errors
    /// Always.
    pub fn begin() -> std::io::Result<Self> {
        Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
    }
    /// Never called, as there is none.
    ///
    /// # Errors
    /// Never.
    pub fn listened(&mut self, _at: &[std::net::SocketAddr]) -> std::io::Result<Vec<bool>> {
        match *self {}
    }
}
