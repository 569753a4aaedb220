//! Forward proxying.
