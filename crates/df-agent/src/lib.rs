//! df-agent
