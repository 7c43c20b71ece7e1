//! What a client says to the proxy, in SOCKS5 or HTTP: the same comes of it at once and byte by byte.
#![no_main]

use cc_ci_orchestrator_fuzz::proxy::handshake::{Handshake, Next};
use libfuzzer_sys::fuzz_target;

/// Feeds in these portions; all that was sent back, how it ended, and how much was fed then.
fn talk<'a>(portions: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Next>, usize) {
    let mut handshake = Handshake::default();
    let (mut sent, mut fed) = (Vec::new(), 0);
    for portion in portions {
        handshake.feed(portion);
        fed += portion.len();
        loop {
            match handshake.advance() {
                Next::Read => break,
                Next::Write(bytes) => sent.extend_from_slice(bytes),
                end => return (sent, Some(end), fed),
            }
        }
    }
    (sent, None, fed)
}

fuzz_target!(|bytes: &[u8]| {
    let (sent, mut whole, _) = talk(std::iter::once(bytes));
    let (sent_bytewise, bytewise, fed) = talk(bytes.chunks(1));
    if let Some(Next::Open { target, early, .. }) = &mut whole {
        assert!(target.port > 0 && early.len() < bytes.len());
        // What came after the end was not fed when it was fed bytewise.
        assert_eq!(early.split_off(0), bytes[fed..]);
    }
    if let Some(Next::Refuse { answer, .. }) = &whole {
        assert!(answer.len() <= 600);
    }
    assert_eq!((sent, whole), (sent_bytewise, bytewise));
});
