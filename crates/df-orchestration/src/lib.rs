//! df-orchestration
