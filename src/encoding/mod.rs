//! Order-preserving keys and versioned records.
