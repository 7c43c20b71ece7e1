//! ssh private keys, in OpenSSH's own form or in PEM.

use super::{Bad, pem};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ssh_key::PrivateKey;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &[u8] = b"-----END OPENSSH PRIVATE KEY-----";

pub(super) fn check(bytes: &[u8]) -> Result<Vec<String>, Bad> {
    // ssh says `error in libcrypto` or `invalid format` of such a file, and nobody guesses why.
    if !bytes.ends_with(b"\n") {
        return Err(Bad::new("its last line has no line break, without which ssh does not load it", "add one"));
    }
    if bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-") {
        return Err(Bad::new("it is a public key", "give the private one, which is in the file without `.pub`"));
    }
    if !bytes.starts_with(BEGIN) {
        return pem::private_key(bytes).map(|_| Vec::new());
    }
    let bad = |fault: &str| Bad::new(fault, "give the file that `ssh-keygen` wrote, unchanged");
    let body = &bytes[BEGIN.len()..];
    let end = body.windows(END.len()).position(|part| part == END);
    let body = &body[..end.ok_or_else(|| bad("it has no `END` line"))?];
    // Decoded here, since the crate takes lines of 70 columns only and Go's and others' writers break at 64.
    let body = Zeroizing::new(body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>());
    let raw =
        BASE64_STANDARD.decode(&*body).map(Zeroizing::new).map_err(|_| bad("it is no base64 between its lines"))?;
    let damaged = || bad("it is damaged, or of a kind that is not known here");
    let key = PrivateKey::from_bytes(&raw).map_err(|_| damaged())?;
    if key.is_encrypted() {
        return Err(Bad::new(
            "it is protected by a passphrase, which nobody would be there to type",
            "take it off with `ssh-keygen -p -f FILE`",
        ));
    }
    if let KeypairData::Ed25519(pair) = key.key_data() {
        // The crate compares the two copies of the public half only.
        if Ed25519Keypair::from_seed(&pair.private.to_bytes()).public != pair.public {
            return Err(damaged());
        }
    }
    // It is lax about lengths inside of the key; ssh is not.
    if key.to_bytes().map_err(|_| damaged())? != raw {
        return Err(damaged());
    }
    Ok(Vec::new())
}
