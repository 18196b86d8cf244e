//! The kvjob command.

fn main() {}
