//! Durable JSON: `{"format":"loop","version":1,"data":…}`, so that a file says what it is and who can read it.

use super::read::{Bad, read_as};
use super::{DurableError, Read, Unfit, write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// The user writes, the group reads.
const FILE_MODE: u32 = 0o640;

#[derive(Serialize)]
struct Wrapped<'a, T> {
    format: &'a str,
    version: u64,
    data: &'a T,
}

/// Writes `data` durably; see [`write()`]. `version` starts at 1.
pub fn write_json<T: Serialize>(path: &Path, format: &str, version: u64, data: &T) -> Result<(), DurableError> {
    let mut bytes = serde_json::to_vec_pretty(&Wrapped { format, version, data })
        .map_err(|cause| DurableError::Encode { path: path.to_owned(), cause })?;
    bytes.push(b'\n');
    write(path, &bytes, FILE_MODE)
}

/// Reads what [`write_json`] wrote in any version from 1 to `supported`, so `T` must still read the older ones.
/// Malformed content and another `format` are foreign; a newer version is an error. See [`super::read()`].
pub fn read_json<T: DeserializeOwned>(path: &Path, format: &str, supported: u64) -> Result<Read<T>, DurableError> {
    read_as(path, |bytes| decode(bytes, format, supported), Bad::SetAside)
}

/// Like [`read_json`], but changes nothing: for readers that do not own the file.
pub fn inspect_json<T: DeserializeOwned>(path: &Path, format: &str, supported: u64) -> Result<Read<T>, DurableError> {
    read_as(path, |bytes| decode(bytes, format, supported), Bad::Leave)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], format: &str, supported: u64) -> Result<T, Unfit> {
    if bytes.is_empty() {
        return Err(Unfit::Foreign("is empty".into()));
    }
    let malformed = |cause| Unfit::Foreign(format!("is malformed: {cause}"));
    let mut file: Value = serde_json::from_slice(bytes).map_err(malformed)?;
    let found = file.get("format").and_then(Value::as_str);
    if found != Some(format) {
        let found = found.unwrap_or("none");
        return Err(Unfit::Foreign(format!("has the format `{found}` instead of `{format}`")));
    }
    match file.get("version").and_then(Value::as_u64) {
        None | Some(0) => return Err(Unfit::Foreign("has no version".into())),
        Some(found) if found > supported => return Err(Unfit::Newer { found, supported }),
        Some(_) => {}
    }
    let data = file.get_mut("data").map(Value::take).ok_or_else(|| Unfit::Foreign("has no data".into()))?;
    serde_json::from_value(data).map_err(malformed)
}
