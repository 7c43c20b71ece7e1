//! Values of a sops file (YAML or JSON, with age keys), for machines without sops-nix. Reads only, and believes nothing
//! before the file's MAC is verified.

mod cipher;
mod metadata;
#[cfg(test)]
mod tests;
mod tree;

use super::content::Content;
use age::x25519::Identity;
use metadata::{Metadata, Rule};
use sha2::{Digest, Sha512};
use tree::Node;
use zeroize::Zeroizing;

/// What the MAC begins with when it is over the encrypted values only: SHA-256 of `sops`, so that it differs from one over
/// all.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Why a sops file is of no use. Displays as `<cause>; <what to do>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SopsError(String);

fn error(text: impl Into<String>) -> SopsError {
    SopsError(text.into())
}

/// A sops file that is not decrypted.
#[derive(Debug)]
pub struct Encrypted {
    tree: Node,
    metadata: Metadata,
}

/// The values of a decrypted file.
#[derive(Debug, Clone)]
pub struct Values(Value);

#[derive(Debug, Clone)]
enum Value {
    Null,
    Leaf(Content),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Encrypted {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is no sops file, or one of a kind that cannot be read here.
    pub fn read(text: &str) -> Result<Self, SopsError> {
        let (tree, metadata) = tree::read(text)?;
        Ok(Self { tree, metadata })
    }

    /// The age public keys that it is encrypted for.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.metadata.age.iter().map(|key| key.recipient.as_str())
    }

    /// Whether one of these keys can decrypt it.
    pub fn is_for(&self, identities: &[Identity]) -> bool {
        self.recipients().any(|recipient| identities.iter().any(|own| own.to_public().to_string() == recipient))
    }

    /// Decrypts everything and verifies the MAC.
    ///
    /// # Errors
    /// When no key fits, or anything was changed by somebody without one.
    pub fn decrypt(&self, identities: &[Identity]) -> Result<Values, SopsError> {
        let key = cipher::data_key(&self.metadata, identities)?;
        let mut walk = Walk { key: &key, rule: self.metadata.rule()?, hash: Sha512::new(), metadata: &self.metadata };
        if self.metadata.mac_only_encrypted {
            walk.hash.update(ONLY_ENCRYPTED);
        }
        let value = walk.value(&self.tree, &mut Vec::new())?;
        let computed: String = walk.hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        let told = cipher::open(&self.metadata.mac, &key, &self.metadata.lastmodified)
            .map_err(|_| error("its MAC cannot be decrypted: somebody changed the file; take it from git again"))?;
        if told.bytes.as_slice() != computed.as_bytes() {
            let text = "its MAC is not that of its values: somebody changed the file; take it from git again";
            return Err(error(text));
        }
        Ok(Values(value))
    }
}

struct Walk<'m> {
    key: &'m cipher::DataKey,
    rule: Rule,
    hash: Sha512,
    metadata: &'m Metadata,
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, path: &mut Vec<String>) -> Result<Value, SopsError> {
        match node {
            Node::Null => Ok(Value::Null),
            // Elements have the path of their list.
            Node::List(list) => {
                list.iter().map(|node| self.value(node, path)).collect::<Result<_, _>>().map(Value::List)
            }
            Node::Map(map) => {
                let mut values = Vec::with_capacity(map.len());
                for (key, node) in map {
                    path.push(key.clone());
                    values.push((key.clone(), self.value(node, path)?));
                    path.pop();
                }
                Ok(Value::Map(values))
            }
            leaf => self.leaf(leaf, path).map(|bytes| Value::Leaf(Content::new(bytes))),
        }
    }

    fn leaf(&mut self, leaf: &Node, path: &[String]) -> Result<Vec<u8>, SopsError> {
        let at = || path.join("/");
        if !self.rule.encrypts(path) {
            let (shown, hashed) = plain(leaf);
            if !self.metadata.mac_only_encrypted {
                self.hash.update(hashed.as_bytes());
            }
            return Ok(shown.into_bytes());
        }
        let Node::Text(text) = leaf else {
            return Err(error(format!("`{}` is not encrypted though it should be; encrypt the file anew", at())));
        };
        // sops leaves nothing as it is.
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let opened = cipher::open(text, self.key, &(path.join(":") + ":"))
            .map_err(|why| error(format!("`{}` {why}; take the file from git again", at())))?;
        self.hash.update(opened.bytes.as_slice());
        // As YAML and JSON write it; sops follows Python there.
        Ok(match (opened.kind.as_str(), opened.bytes.as_slice()) {
            ("bool", b"True") => b"true".to_vec(),
            ("bool", b"False") => b"false".to_vec(),
            (_, bytes) => bytes.to_vec(),
        })
    }
}

/// A value that is not encrypted: as a file's content, and as the MAC has it.
fn plain(leaf: &Node) -> (String, String) {
    match leaf {
        Node::Bool(true) => ("true".into(), "True".into()),
        Node::Bool(false) => ("false".into(), "False".into()),
        Node::Number(text) => (text.clone(), text.clone()),
        Node::Text(text) => (text.to_string(), text.to_string()),
        Node::Null | Node::List(_) | Node::Map(_) => (String::new(), String::new()),
    }
}

impl Values {
    /// A value by its keys with `/` between them; elements of lists by their number.
    ///
    /// # Errors
    /// In words, when there is no such value, or it is none that a file can hold.
    pub fn get(&self, key: &str) -> Result<Content, String> {
        let mut at = &self.0;
        for part in key.split('/') {
            let next = match at {
                Value::Map(map) => map.iter().find(|(name, _)| name == part).map(|(_, value)| value),
                Value::List(list) => part.parse().ok().and_then(|number: usize| list.get(number)),
                Value::Leaf(_) | Value::Null => None,
            };
            at =
                next.ok_or_else(|| format!("there is no `{part}`; see which keys there are, they are not encrypted"))?;
        }
        match at {
            Value::Leaf(content) => Ok(content.clone()),
            Value::Null => Err("it is null; give it a value with `sops edit`".to_owned()),
            Value::List(_) | Value::Map(_) => Err("it is no single value; name one in it by `sops_key`".to_owned()),
        }
    }
}

/// A key or a text that is wiped.
type Wiped<T> = Zeroizing<T>;
