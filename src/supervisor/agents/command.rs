//! Any program. Its signs of life are its output and what it tells `supervisor event`, in the words of [`Signal`].

use super::{Adapter, Capabilities, Launch, LaunchRequest, Signal};

/// The adapter `command`.
pub struct Command;

impl Adapter for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        Launch { argv: [request.command.clone(), request.args.clone()].concat(), ..Launch::default() }
    }

    fn read_event(&self, event: &serde_json::Value, _now: i64) -> Vec<Signal> {
        // The event is a signal itself: {"signal":"turn-ended"}.
        vec![serde_json::from_value(event.clone()).unwrap_or(Signal::Alive)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_read_as_the_signal_that_it_names() {
        assert_eq!(Command.read_event(&json!({"signal": "turn-ended"}), 0), [Signal::TurnEnded]);
        assert_eq!(
            Command.read_event(&json!({"signal": "usage-limit", "resets_at": 5, "evidence": "429"}), 0),
            [Signal::UsageLimit { resets_at: Some(5), evidence: "429".into() }]
        );
    }

    #[test]
    fn an_unknown_event_is_a_sign_of_life() {
        assert_eq!(Command.read_event(&json!({"signal": "sneezed"}), 0), [Signal::Alive]);
        assert_eq!(Command.read_event(&json!([1]), 0), [Signal::Alive]);
    }
}
