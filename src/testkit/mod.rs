//! For those who write an adapter or test their handlers.
