//! What the tests of configs share: an agent that is in no package, and readers of a config's text.

#![allow(dead_code, unused_macros, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]

use cc_ci::supervisor::agents::{Adapter, Capabilities, Launch, LaunchRequest, Signal, by_name};
use cc_ci::supervisor::config::{Loaded, read_with};
use std::path::Path;

/// An agent that brings its own program and takes prompts.
struct Pilot;

impl Adapter for Pilot {
    fn name(&self) -> &'static str {
        "pilot"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { resumes: true, own_program: true, takes_prompt: true, ..Capabilities::default() }
    }
    fn launch(&self, _: &LaunchRequest) -> Launch {
        Launch { argv: vec!["pilot".into()], ..Launch::default() }
    }
    fn read_event(&self, _: &serde_json::Value, _: i64) -> Vec<Signal> {
        vec![Signal::Alive]
    }
}

/// The agents that a test's configs may name. They are fixed, so that a new kind in the package changes no text here.
pub fn adapters() -> [&'static dyn Adapter; 2] {
    [by_name("command").unwrap(), &Pilot]
}

/// What reading that text gives.
fn read(text: &str) -> Result<Loaded, String> {
    read_with(text, Path::new("s.toml"), &adapters()).map_err(|e| e.to_string())
}

/// What an operator sees of a config that is refused.
pub fn refused(text: &str) -> String {
    read(text).unwrap_err()
}

/// What an operator is warned of.
pub fn warned(text: &str) -> String {
    let warnings = read(text).unwrap().warnings;
    warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")
}

/// A test each: its name, the config, and the whole of what is said.
macro_rules! cases {
    ($check:ident $($name:ident: $text:literal => $want:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let got = $check($text);
                assert_eq!(got, $want, "\n--- got:\n{got}\n--- want:\n{}", $want);
            }
        )*
    };
}
