//! df-gateway
