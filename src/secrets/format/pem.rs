//! X.509 certificates and private keys in PEM: whether they parse, belong together and are still valid.

use super::Bad;
use crate::support::clock::format_time;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Somebody has this long to renew it after the first warning.
const WARN_AHEAD: i64 = 14 * 86400;

/// What two halves of a pair have in common: the public key in DER, as in a certificate.
pub(super) type PublicKey = Vec<u8>;

/// The public key of the first certificate, and what will soon be wrong.
pub(super) fn certificate(bytes: &[u8], now: i64) -> Result<(PublicKey, Vec<String>), Bad> {
    let bad = |fault: String| Bad::new(fault, "give it as PEM: `openssl x509 -in FILE -noout -text` must show it");
    let mut first = None;
    let mut warnings = Vec::new();
    for (number, section) in (1..).zip(CertificateDer::pem_slice_iter(bytes)) {
        let der = section.map_err(|_| bad(format!("certificate {number} of it is no PEM")))?;
        let damaged = || bad(format!("certificate {number} of it is damaged"));
        let (rest, cert) = X509Certificate::from_der(&der).map_err(|_| damaged())?;
        if !rest.is_empty() {
            return Err(damaged());
        }
        let which = if number == 1 { "it".to_owned() } else { format!("certificate {number} of its chain") };
        let validity = cert.validity();
        let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        if to <= now {
            let fault = format!("{which} expired at {}", format_time(to.saturating_mul(1000)));
            return Err(Bad::new(fault, "renew it, and put the new one into its source"));
        }
        if to - now <= WARN_AHEAD {
            let at = format_time(to.saturating_mul(1000));
            warnings.push(format!("{which} expires at {at}; renew it before"));
        }
        if from > now {
            // Only said: a machine whose clock is not set yet boots into the past.
            let at = format_time(from.saturating_mul(1000));
            warnings.push(format!("{which} is valid from {at} on only; is this machine's clock right?"));
        }
        first.get_or_insert_with(|| cert.public_key().raw.to_vec());
    }
    let first = first.ok_or_else(|| bad("it has no certificate".to_owned()))?;
    Ok((first, warnings))
}

/// The public half of the one private key.
pub(super) fn private_key(bytes: &[u8]) -> Result<PublicKey, Bad> {
    let remedy = "give it as PEM: `openssl pkey -in FILE -noout` must accept it";
    let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(Bad::new(
            "it is protected by a passphrase, which nobody would be there to type",
            "take it off with `openssl pkey -in FILE -out FILE`",
        ));
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(bytes);
    let key = match keys.next() {
        None => return Err(Bad::new("it has no private key", remedy)),
        Some(key) => key.map_err(|_| Bad::new("it is no PEM", remedy))?,
    };
    if keys.next().is_some() {
        return Err(Bad::new("it has more than one private key", "keep the one that is meant"));
    }
    let signer = any_supported_type(&key).map_err(|_| {
        let fault = "it is damaged, or neither RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, nor Ed25519";
        Bad::new(fault, remedy)
    })?;
    let public = signer.public_key().ok_or_else(|| Bad::new("its public half cannot be found out", remedy))?;
    Ok(public.to_vec())
}

/// Whether a certificate is for a private key.
///
/// # Errors
/// When it is for another, or one of the two is none.
pub fn matches(certificate_pem: &[u8], key_pem: &[u8], now: i64) -> Result<(), Bad> {
    let (certified, _) = certificate(certificate_pem, now)?;
    if certified == private_key(key_pem)? {
        return Ok(());
    }
    Err(Bad::new("it is for another private key", "put the two of one pair into their sources"))
}
