//! What a SOCKS5 proxy answers: read to its end or its fault, the same in every portion, and never asking for too much.
#![no_main]

use cc_ci_orchestrator_fuzz::proxy::client::{Answers, BadAnswer, Reply, Step};
use libfuzzer_sys::fuzz_target;

/// Reads at most `most` at once; what came of it, if anything, and how much was read.
fn talk(bytes: &[u8], most: usize) -> (Option<Result<Reply, BadAnswer>>, usize) {
    let (mut answers, mut at) = (Answers::default(), 0);
    loop {
        match answers.step() {
            Ok(Step::Ask) => {}
            Ok(Step::Read(wanted)) => {
                assert!((1..=257).contains(&wanted));
                let n = wanted.min(most).min(bytes.len() - at);
                if n == 0 {
                    return (None, at);
                }
                answers.feed(&bytes[at..at + n]);
                at += n;
            }
            Ok(Step::End(reply)) => return (Some(Ok(reply)), at),
            Err(fault) => return (Some(Err(fault)), at),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (Some(end), read) = talk(bytes, usize::MAX) else { return };
    let (end_bytewise, read_bytewise) = talk(bytes, 1);
    // Of a fault more may have been read; of a reply not one byte beyond it.
    if end.is_ok() {
        assert_eq!(read, read_bytewise);
    }
    assert_eq!(Some(end), end_bytewise);
});
