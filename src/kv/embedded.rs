//! placeholder
use super::*;
/// placeholder
#[derive(Debug)]
pub struct Embedded<E>(E);
/// placeholder
#[derive(Debug)]
pub struct Options;
