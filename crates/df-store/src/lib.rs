//! df-store
