//! Redis and Valkey: `SET` and `DEL` in `MULTI` and `EXEC`, all of a commit in one trip.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use super::{Engine, Write};
use crate::Result;
use crate::stores::{Backend, Home};

pub(super) struct Raw {
    stream: BufReader<TcpStream>,
    _home: Home,
}

impl Raw {
    pub(super) fn open(backend: Backend) -> Result<Self> {
        let home = backend.home()?;
        let address = home.url().and_then(|url| url.strip_prefix("redis://"));
        let stream = TcpStream::connect(address.ok_or("it has no address")?)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            _home: home,
        })
    }

    /// The next line of an answer, which is no error.
    fn line(&mut self) -> Result<()> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.is_empty() || line.starts_with('-') {
            return Err(format!("Redis answered {line:?}").into());
        }
        Ok(())
    }
}

impl Engine for Raw {
    fn apply(&mut self, writes: &[Write]) -> Result<()> {
        let mut sent = Vec::new();
        say(&mut sent, &[b"MULTI"])?;
        for (key, value) in writes {
            match value {
                Some(value) => say(&mut sent, &[b"SET", key, value])?,
                None => say(&mut sent, &[b"DEL", key])?,
            }
        }
        say(&mut sent, &[b"EXEC"])?;
        self.stream.get_mut().write_all(&sent)?;
        // OK, so often QUEUED, how many answers there are, and those.
        for _ in 0..2 + 2 * writes.len() {
            self.line()?;
        }
        Ok(())
    }
}

/// A command in the protocol.
fn say(to: &mut Vec<u8>, words: &[&[u8]]) -> Result<()> {
    write!(to, "*{}\r\n", words.len())?;
    for word in words {
        write!(to, "${}\r\n", word.len())?;
        to.extend_from_slice(word);
        to.extend_from_slice(b"\r\n");
    }
    Ok(())
}
