//! placeholder
/// placeholder
#[derive(Debug)]
pub struct FileLock;
