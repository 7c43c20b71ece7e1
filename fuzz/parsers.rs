//! The proxy's parsers and nothing else of the crate, from their own files: with what the rest needs a build takes many
//! minutes instead of one.

#[path = "../src/proxy"]
pub mod proxy {
    pub mod client;
    pub mod handshake;
    mod http;
    pub mod socks;
    pub mod target;
}
