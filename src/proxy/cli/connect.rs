//! `proxy-shim connect`.

use super::{Fault, duration};
use crate::proxy::client;
use crate::proxy::connect::{Wanted, dial, join_stdio, pass_socket};
use crate::proxy::target::Target;
use anyhow::Context as _;
use std::time::Duration;

/// Arguments of `connect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The proxy
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1055")]
    proxy: String,
    /// Hand the connection over to ssh and end (with `ProxyUseFdpass yes`)
    #[arg(long)]
    fdpass: bool,
    /// How long to wait for a proxy that is not there yet
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
    /// How long the proxy and the destination may take, once the proxy is there
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    timeout: Duration,
    /// A name, which the proxy's way out looks up, or an address
    host: String,
    port: u16,
}

/// Connects, and hands the connection over or relays it.
pub fn run(args: Args) -> anyhow::Result<()> {
    let usage = |what: String| anyhow::Error::from(Fault::Usage(format!("reading the command line: {what}")));
    let proxy = Target::parse(&args.proxy).map_err(|e| usage(format!("`--proxy {}`: {e}", args.proxy)))?;
    let target = client::target(&args.host, args.port)
        .ok_or_else(|| usage(format!("`{} {}` is no host and port", args.host, args.port)))?;
    if args.timeout.is_zero() {
        return Err(usage("`--timeout` cannot be zero; leave it out, or give more".to_owned()));
    }
    let wanted = Wanted { proxy, target, wait: args.wait, timeout: args.timeout };
    let connection = dial(&wanted)?;
    if args.fdpass {
        return Ok(pass_socket(&connection, rustix::stdio::stdout())?);
    }
    join_stdio(&connection).with_context(|| format!("relaying to `{}`", wanted.target))
}
