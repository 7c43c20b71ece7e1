//! What a config's tables and keys are, in the form that the reader, "did you mean" and the reference share.

/// A table of the config and its keys.
#[derive(Debug)]
pub struct Table {
    /// As a person writes it: `[loops.NAME]`; empty for the top level.
    pub header: &'static str,
    /// In the order in which the reference explains them.
    pub keys: &'static [Key],
}

/// A key.
#[derive(Debug)]
pub struct Key {
    /// As written before the `=`.
    pub name: &'static str,
    /// What its value is, for people: `duration`.
    pub form: &'static str,
    /// The value that it has when left out, in TOML; or `required`, `none` or a rule in words.
    pub default: &'static str,
    /// A value in TOML, for the reference and for the help of errors.
    pub example: &'static str,
}

impl Table {
    /// The key of that name.
    pub fn get(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().map(|k| k.name)
    }

    /// ``in `[loops.NAME]` ``, or `at the top level`.
    pub fn place(&self) -> String {
        if self.header.is_empty() { "at the top level".to_owned() } else { format!("in `{}`", self.header) }
    }
}

/// A key, in the order of its fields: a list of them is read as a table.
pub const fn key(name: &'static str, form: &'static str, default: &'static str, example: &'static str) -> Key {
    Key { name, form, default, example }
}
