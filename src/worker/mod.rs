//! Runs handlers.
