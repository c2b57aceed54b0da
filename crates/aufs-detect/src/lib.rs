//! What this kernel and these directories can do.
