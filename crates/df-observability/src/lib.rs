//! df-observability
