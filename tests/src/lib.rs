//! What the cross-backend tests share.
