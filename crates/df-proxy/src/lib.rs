//! df-proxy
