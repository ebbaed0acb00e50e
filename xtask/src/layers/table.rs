//! The allowed edges and forbidden closures, as data. ARCHITECTURE.md says why each stands.

/// What one package may depend on inside the workspace.
#[derive(Debug, Clone, Copy)]
pub(super) enum May {
    /// These packages and no others.
    Only(&'static [&'static str]),
    /// Every package: reserved for test support, which is never shipped.
    Any,
}

/// All rules that `cargo xtask layers` enforces.
#[derive(Debug)]
pub(super) struct Rules {
    /// Direct edges: package, and what it may name in its manifest.
    pub allowed: &'static [(&'static str, May)],
    /// Packages that may only ever be a dev-dependency.
    pub dev_only: &'static [&'static str],
    /// A package, and what its shipped closure must never contain.
    pub forbidden: &'static [(&'static str, &'static [&'static str])],
    /// Packages that know no clock, no randomness, no file and no socket.
    pub pure: &'static [&'static str],
    /// Third-party crates that bring one of these.
    pub ambient: &'static [&'static str],
    /// Exceptions: pure package, ambient crate, reason.
    pub pure_excused: &'static [(&'static str, &'static str, &'static str)],
}

impl Rules {
    pub(super) fn may(&self, package: &str) -> Option<May> {
        self.allowed.iter().find(|(name, _)| *name == package).map(|(_, may)| *may)
    }
}

use May::{Any, Only};

pub(super) const RULES: Rules = Rules {
    allowed: &[
        ("df-contract", Only(&[])),
        ("df-scan", Only(&["df-contract"])),
        ("df-control-machine", Only(&["df-contract"])),
        ("df-control-audit", Only(&["df-contract"])),
        ("df-control-governance", Only(&["df-contract", "df-control-machine"])),
        ("df-observability", Only(&["df-contract"])),
        ("df-store", Only(&["df-contract", "df-control-machine", "df-control-audit", "df-observability"])),
        (
            "df-orchestration",
            Only(&[
                "df-contract",
                "df-control-machine",
                "df-control-governance",
                "df-control-audit",
                "df-store",
                "df-observability",
            ]),
        ),
        ("df-sandbox", Only(&["df-contract", "df-scan", "df-observability"])),
        ("df-agent", Only(&["df-contract", "df-sandbox", "df-scan", "df-observability"])),
        ("df-proxy", Only(&["df-contract", "df-observability"])),
        (
            "df-gateway",
            Only(&[
                "df-contract",
                "df-control-machine",
                "df-control-governance",
                "df-control-audit",
                "df-orchestration",
                "df-store",
                "df-observability",
            ]),
        ),
        ("df-testkit", Any),
        (
            "devfactory",
            Only(&["df-contract", "df-control-machine", "df-control-governance", "df-control-audit"]),
        ),
        (
            "devfactoryd",
            Only(&["df-gateway", "df-orchestration", "df-store", "df-observability", "df-contract"]),
        ),
        ("devfactory-proxy", Only(&["df-proxy", "df-observability", "df-contract"])),
        (
            "devfactory-worker",
            Only(&["df-agent", "df-sandbox", "df-scan", "df-observability", "df-contract"]),
        ),
        ("xtask", Only(&["df-contract", "df-control-machine"])),
    ],
    dev_only: &["df-testkit"],
    forbidden: &[
        ("devfactoryd", &["df-agent", "df-sandbox", "df-proxy"]),
        (
            "devfactory-proxy",
            &[
                "df-control-machine",
                "df-control-governance",
                "df-control-audit",
                "df-store",
                "df-agent",
                "df-sandbox",
            ],
        ),
        (
            "devfactory-worker",
            &[
                "df-store",
                "df-control-machine",
                "df-control-governance",
                "df-control-audit",
                "df-orchestration",
                "df-proxy",
            ],
        ),
    ],
    pure: &["df-contract", "df-control-machine", "df-control-audit", "df-control-governance", "df-scan"],
    ambient: &[
        "async-std",
        "axum",
        "chrono",
        "fastrand",
        "getrandom",
        "hyper",
        "mio",
        "rand",
        "reqwest",
        "rusqlite",
        "rustix",
        "smol",
        "socket2",
        "tempfile",
        "time",
        "tokio",
    ],
    pure_excused: &[
        ("df-control-governance", "rand", "regorus links it for rand.*, which a bundle may not call"),
        ("df-control-governance", "getrandom", "comes with rand through regorus; see above"),
    ],
};
