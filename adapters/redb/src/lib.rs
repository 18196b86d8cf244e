//! kvjob on redb.
