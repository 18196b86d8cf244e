//! An ordered map.

use std::collections::BTreeMap;

use super::{Engine, Write};
use crate::Result;

#[derive(Default)]
pub(super) struct Raw(BTreeMap<Vec<u8>, Vec<u8>>);

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        for (key, value) in writes {
            match value {
                Some(value) => drop(self.0.insert(key.clone(), value.clone())),
                None => drop(self.0.remove(key)),
            }
        }
        Ok(())
    }
}
