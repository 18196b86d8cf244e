//! Opens any backend by URL.
