//! Ports that stay: a killed process must come back at the address the others know.
//!
//! A port drawn with `bind(0)` may be taken by any outgoing connection while its process is dead. So these come from
//! below the range the kernel draws from, at random, and only if they can be bound now.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use rand::RngExt as _;

/// Below `net.ipv4.ip_local_port_range`, which begins at 32768.
const PORTS: std::ops::Range<u16> = 14_000..32_000;
const TRIES: usize = 1_000;

/// Drawn by this process; a port is not drawn twice, even when its first user is gone.
static DRAWN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

pub(crate) fn draw() -> u16 {
    let mut random = rand::rng();
    for _ in 0..TRIES {
        let port = random.random_range(PORTS);
        if DRAWN.lock().unwrap().insert(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port after {TRIES} tries");
}
