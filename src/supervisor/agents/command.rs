//! Any program. Its signs of life are its output and what it tells `supervisor event`, in the words of [`Signal`].

use super::{Adapter, Capabilities, Launch, LaunchRequest, Signal};

/// The adapter `command`.
pub struct Command;

impl Adapter for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { resumes: false, own_program: false, takes_prompt: false }
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        Launch { argv: [request.command.clone(), request.args.clone()].concat(), env: Vec::new(), files: Vec::new() }
    }

    fn read_event(&self, event: &serde_json::Value) -> Vec<Signal> {
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
        assert_eq!(Command.read_event(&json!({"signal": "turn-ended"})), [Signal::TurnEnded]);
        assert_eq!(
            Command.read_event(&json!({"signal": "usage-limit", "resets_at": 5, "evidence": "429"})),
            [Signal::UsageLimit { resets_at: Some(5), evidence: "429".into() }]
        );
    }

    #[test]
    fn an_unknown_event_is_a_sign_of_life() {
        assert_eq!(Command.read_event(&json!({"signal": "sneezed"})), [Signal::Alive]);
        assert_eq!(Command.read_event(&json!([1])), [Signal::Alive]);
    }
}
