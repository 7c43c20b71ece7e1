//! The data key of a sops file, and its values: AES-256-GCM, with the value's path as associated data.

use super::metadata::Metadata;
use super::{SopsError, Wiped, error};
use aes_gcm::aead::consts::{U12, U32};
use aes_gcm::aead::generic_array::{ArrayLength, GenericArray};
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInPlace, AesGcm, KeyInit, Tag};
use age::x25519::Identity;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::io::Read;

pub(super) type DataKey = Wiped<[u8; 32]>;

/// The key that all values are encrypted with, from the first recipient that one of these keys is.
pub(super) fn data_key(metadata: &Metadata, identities: &[Identity]) -> Result<DataKey, SopsError> {
    for key in &metadata.age {
        let armored = age::armor::ArmoredReader::new(key.enc.as_bytes());
        let Ok(decryptor) = age::Decryptor::new(armored) else { continue };
        let own = identities.iter().map(|identity| identity as &dyn age::Identity);
        let Ok(mut reader) = decryptor.decrypt(own) else { continue };
        let mut found = Wiped::new([0; 32]);
        let mut more = [0];
        if reader.read_exact(&mut *found).is_ok() && matches!(reader.read(&mut more), Ok(0)) {
            return Ok(found);
        }
    }
    let text =
        "none of its recipients is this machine's key; add its public key to .sops.yaml and run `sops updatekeys`";
    Err(error(text))
}

/// A decrypted value.
pub(super) struct Opened {
    pub(super) bytes: Wiped<Vec<u8>>,
    /// What it was before it was encrypted: `str`, `int`, `bool`, ….
    pub(super) kind: String,
}

/// Decrypts `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.
///
/// # Errors
/// Why not, to stand behind the value's name.
pub(super) fn open(text: &str, key: &DataKey, associated: &str) -> Result<Opened, &'static str> {
    let foreign = "is not encrypted, or not by sops";
    let inner = text.strip_prefix("ENC[AES256_GCM,").and_then(|rest| rest.strip_suffix(']')).ok_or(foreign)?;
    let mut parts = inner.split(',');
    let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(foreign);
    let (data, iv, tag, kind) = (part("data:")?, part("iv:")?, part("tag:")?, part("type:")?);
    let decoded = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| foreign);
    let (mut bytes, iv, tag) = (Wiped::new(decoded(data)?), decoded(iv)?, decoded(tag)?);
    if tag.len() != 16 {
        return Err(foreign);
    }
    match iv.len() {
        32 => gcm::<U32>(key, &iv, associated, &mut bytes, &tag)?,
        12 => gcm::<U12>(key, &iv, associated, &mut bytes, &tag)?,
        _ => return Err(foreign),
    }
    Ok(Opened { bytes, kind: kind.to_owned() })
}

fn gcm<N: ArrayLength<u8>>(
    key: &DataKey,
    iv: &[u8],
    associated: &str,
    bytes: &mut [u8],
    tag: &[u8],
) -> Result<(), &'static str> {
    AesGcm::<Aes256, N>::new(GenericArray::from_slice(key.as_slice()))
        .decrypt_in_place_detached(GenericArray::from_slice(iv), associated.as_bytes(), bytes, Tag::from_slice(tag))
        .map_err(|_| "was changed, or moved from another place")
}
