//! The raw objects of a store as text, one a line, so that a store of an older version can stand
//! beside the tests and be loaded into any backend.

use std::fmt::Write as _;

use kvjob::kv::{Object, Result, Scan, Store};

/// Everything in a store, in its order: key, a space, value, both in hexadecimal digits.
///
/// # Errors
/// What the store says.
pub async fn dump(store: &dyn Store) -> Result<String> {
    let mut text = String::new();
    let mut scan = Scan::prefix("");
    loop {
        let page = store.scan(scan.clone()).await?;
        for object in page.objects {
            digits(&mut text, object.key.as_bytes());
            text.push(' ');
            digits(&mut text, &object.value);
            text.push('\n');
        }
        match page.next {
            Some(next) => scan = scan.after(next),
            None => return Ok(text),
        }
    }
}

/// Puts what [`dump`] wrote into a store.
///
/// # Errors
/// What the store says.
///
/// # Panics
/// If the text is not one of [`dump`].
pub async fn load(store: &dyn Store, text: &str) -> Result<()> {
    for line in text.lines() {
        let (key, value) = line.split_once(' ').expect("key and value");
        store.set(Object::new(bytes(key), bytes(value))).await?;
    }
    Ok(())
}

fn digits(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}
