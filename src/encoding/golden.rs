//! Reads the golden files under `tests/fixtures/records/`.

/// The bytes of a golden file: hexadecimal pairs, and comments from `#` to the end of the line.
pub(super) fn bytes(file: &str) -> Vec<u8> {
    file.lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::split_whitespace)
        .map(|pair| u8::from_str_radix(pair, 16).expect("a pair of hexadecimal digits"))
        .collect()
}
