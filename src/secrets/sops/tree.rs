//! The document itself, in its own order, which the MAC depends on.

use super::metadata::Metadata;
use super::{SopsError, Wiped, error};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::fmt;

/// A part of the document.
#[derive(Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    /// As the MAC has it.
    Number(String),
    Text(Wiped<String>),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node(…)")
    }
}

#[derive(Deserialize)]
struct File {
    sops: Option<Metadata>,
}

/// The document without what sops says of it, and that.
pub(super) fn read(text: &str) -> Result<(Node, Metadata), SopsError> {
    let json = text.trim_start().starts_with('{');
    // The texts of the libraries can quote what they found.
    let broken = |line: Option<usize>| {
        let line = line.map(|line| format!(" from line {line} on")).unwrap_or_default();
        error(format!("it is no YAML or JSON of sops{line}; give the file that `sops` wrote"))
    };
    let (file, tree) = if json {
        let broken = |e: serde_json::Error| broken(Some(e.line()));
        let file = serde_json::from_str::<File>(text).map_err(broken)?;
        (file, serde_json::from_str::<Node>(text).map_err(broken)?)
    } else {
        let broken = |e: serde_yaml_ng::Error| broken(e.location().map(|at| at.line()));
        let file = serde_yaml_ng::from_str::<File>(text).map_err(broken)?;
        (file, serde_yaml_ng::from_str::<Node>(text).map_err(broken)?)
    };
    let Some(metadata) = file.sops else {
        return Err(error("it is not encrypted by sops: it has no `sops` key; encrypt it with `sops encrypt`"));
    };
    let Node::Map(mut map) = tree else { return Err(broken(None)) };
    map.retain(|(key, _)| key != "sops");
    Ok((Node::Map(map), metadata))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Parts)
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        // Like Go's 'f' format with the fewest digits: no exponent, however large.
        Ok(Node::Number(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(Wiped::new(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = from.next_element()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut map: Vec<(String, Node)> = Vec::new();
        while let Some((key, node)) = from.next_entry::<String, Node>()? {
            if map.iter().any(|(other, _)| *other == key) {
                return Err(de::Error::custom("a key is there twice"));
            }
            map.push((key, node));
        }
        Ok(Node::Map(map))
    }
}
