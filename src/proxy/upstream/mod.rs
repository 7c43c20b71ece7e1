//! The ways out: each connects to a destination, or says whether it is the way out that is away or the destination.

pub mod direct;
pub mod socks5;

use super::socks::Code;
use super::target::Target;
use std::time::Duration;
use tokio::net::TcpStream;

/// A way out.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// This machine's own network.
    Direct,
    /// A SOCKS5 proxy, which tailscaled is as well.
    Socks5(Target),
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The way out itself is away: worth waiting for.
    #[error("{0}")]
    Away(String),
    /// That is the answer.
    #[error("{words}")]
    Answer {
        /// For the client.
        code: Code,
        /// For people.
        words: String,
    },
}

impl DialError {
    /// An answer with the code's own words.
    fn answer(code: Code, words: impl Into<String>) -> Self {
        Self::Answer { code, words: words.into() }
    }
}

impl Upstream {
    /// Connects.
    ///
    /// # Errors
    /// [`DialError`]; the way out has `greeting` to show that it is there, the destination `within` to answer.
    pub async fn dial(&self, target: &Target, greeting: Duration, within: Duration) -> Result<TcpStream, DialError> {
        match self {
            Self::Direct => direct::dial(target, within).await,
            Self::Socks5(proxy) => socks5::dial(proxy, target, greeting, within).await,
        }
    }
}
