//! The job model.
