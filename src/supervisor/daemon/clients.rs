//! Control connections: what they ask becomes an event, what the core replies goes back.

use super::Daemon;
use crate::supervisor::control::protocol::{Request, Response};
use crate::supervisor::control::server::Incoming;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::world::RequestId;
use crate::support::clock::Now;

impl Daemon {
    pub(super) fn incoming(&mut self, incoming: Vec<Incoming>) {
        for incoming in incoming {
            match incoming {
                Incoming::Call { from, peer_pid, call } => {
                    let caller = self.caller(peer_pid, &call);
                    self.next_request += 1;
                    let request = self.next_request;
                    self.requests.insert(request, from);
                    if matches!(call.request, Request::Status | Request::Explain { .. }) {
                        self.sample_all();
                    }
                    self.queue.push_back(Event::Asked { request, caller, what: call.request });
                }
                Incoming::Gone(connection) => {
                    let gone: Vec<RequestId> =
                        self.requests.iter().filter(|(_, c)| **c == connection).map(|(request, _)| *request).collect();
                    for request in gone {
                        self.requests.remove(&request);
                        self.queue.push_back(Event::AskerGone { request });
                    }
                }
            }
        }
    }

    pub(super) fn answer(&mut self, request: RequestId, response: &Response) {
        // One that is gone needs no answer.
        let Some(connection) = self.requests.remove(&request) else { return };
        let incoming = self.server.send(connection, response, Now::read().boot);
        self.incoming(incoming);
    }
}
