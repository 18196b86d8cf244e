//! [`Info`]: what a server says of itself.

use std::collections::HashMap;

/// The fields that INFO answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Info(HashMap<String, String>);

impl Info {
    /// Reads lines of `name:value`.
    pub(crate) fn read(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Self(
            fields
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// The version of Redis it is, or, for a Valkey, is compatible with.
    pub(crate) fn version(&self) -> &str {
        self.field("redis_version").unwrap_or("of unknown version")
    }

    pub(crate) fn major_version(&self) -> Option<u32> {
        self.version().split('.').next()?.parse().ok()
    }

    pub(crate) fn is_replica(&self) -> bool {
        self.field("role") == Some("slave")
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.field("cluster_enabled") == Some("1")
    }

    /// Bytes of memory it uses, and may use if that is bounded.
    pub(crate) fn memory(&self) -> (u64, Option<u64>) {
        let most = self.number("maxmemory").filter(|most| *most > 0);
        (self.number("used_memory").unwrap_or(0), most)
    }
}
