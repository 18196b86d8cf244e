//! A job's arguments.

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Error, Result};

/// A job's arguments: JSON text, kept as it was given.
///
/// ```
/// use kvjob::job::Payload;
/// let payload = Payload::of(&vec![1, 2, 3])?;
/// assert_eq!(payload.as_str(), "[1,2,3]");
/// assert_eq!(payload.parse::<Vec<u32>>()?, [1, 2, 3]);
/// # Ok::<(), kvjob::job::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Box<str>);

impl Payload {
    /// The JSON of a value.
    ///
    /// # Errors
    /// [`Error::Invalid`] (`payload-not-json`) if it has none, such as a map with keys that are
    /// not strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_string(value).map_err(|error| {
            Error::invalid(
                "payload-not-json",
                format!("the payload has no JSON: {error}"),
            )
        })?;
        Ok(Self(text.into()))
    }

    /// JSON text as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] (`payload-not-json`) with line and column if it is not JSON.
    pub fn from_json(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(Self(text.into())),
            Err(error) => Err(Error::invalid(
                "payload-not-json",
                format!("the payload is not JSON: {error}"),
            )),
        }
    }

    /// Text that was checked when it was stored.
    pub(crate) fn trusted(text: String) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value the JSON stands for.
    ///
    /// # Errors
    /// [`Error::Invalid`] (`payload-mismatch`) if it is not a `T`, with where: the path in the
    /// JSON, line and column.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let mut json = serde_json::Deserializer::from_str(&self.0);
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            // What is wrong as a whole is nowhere in particular.
            let place = match path.as_str() {
                "." => String::new(),
                path => format!(" at `{path}`"),
            };
            let (name, error) = (std::any::type_name::<T>(), error.inner());
            Error::invalid(
                "payload-mismatch",
                format!("the JSON is not a {name}{place}: {error}"),
            )
        })
    }
}

impl Default for Payload {
    /// `null`.
    fn default() -> Self {
        Self("null".into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        match self.0.char_indices().nth(SHOWN) {
            Some((cut, _)) => write!(f, "{}...", self.0.get(..cut).unwrap_or_default()),
            None => f.write_str(&self.0),
        }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(String::from(Box::<str>::from(raw)).into()))
    }
}
